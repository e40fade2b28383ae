#include "agent/worker_pool.h"

#include <chrono>
#include <thread>

namespace bulkhead::agent {
namespace {

constexpr size_t kMaxThreads = 64;
constexpr auto kIdleTime = std::chrono::seconds(10);

}  // namespace

WorkerPool::~WorkerPool() {
  std::unique_lock lock(mutex_);
  stopping_ = true;
  changed_.notify_all();
  changed_.wait(lock, [this] { return threads_ == 0; });
}

void WorkerPool::Run(std::function<void()> task) {
  const std::scoped_lock lock(mutex_);
  tasks_.push_back(std::move(task));
  if (tasks_.size() > idle_ && threads_ < kMaxThreads) {
    ++threads_;
    std::thread([this] { Work(); }).detach();
  } else {
    changed_.notify_one();
  }
}

void WorkerPool::Work() {
  std::unique_lock lock(mutex_);
  while (true) {
    ++idle_;
    const bool woken =
        changed_.wait_for(lock, kIdleTime, [this] { return stopping_ || !tasks_.empty(); });
    --idle_;
    if (!woken || tasks_.empty()) {
      break;
    }
    auto task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    task();
    lock.lock();
  }
  --threads_;
  changed_.notify_all();
}

}  // namespace bulkhead::agent
