// A thread that lives as long as its owner and starts children: PR_SET_PDEATHSIG fires when the
// spawning *thread* ends, and request threads come and go.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <queue>
#include <thread>

#include "base/child.h"

namespace bulkhead {

class SpawnThread {
 public:
  SpawnThread();
  ~SpawnThread();
  SpawnThread(const SpawnThread&) = delete;
  SpawnThread& operator=(const SpawnThread&) = delete;

  // Child::Spawn on the thread; from any thread.
  Result<Child> Spawn(const SpawnOptions& options);

 private:
  void Run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::queue<std::function<void()>> tasks_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace bulkhead
