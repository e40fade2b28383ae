// Threads for calls that block: as many as are needed at once, idle ones end after a while.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>

namespace bulkhead::agent {

class WorkerPool {
 public:
  WorkerPool() = default;
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  void Run(std::function<void()> task);

 private:
  void Work();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  size_t idle_ = 0;
  size_t threads_ = 0;
  bool stopping_ = false;
};

}  // namespace bulkhead::agent
