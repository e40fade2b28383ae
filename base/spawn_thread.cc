#include "base/spawn_thread.h"

#include <future>

namespace bulkhead {

SpawnThread::SpawnThread() : thread_([this] { Run(); }) {}

SpawnThread::~SpawnThread() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

Result<Child> SpawnThread::Spawn(const SpawnOptions& options) {
  std::promise<Result<Child>> promise;
  auto future = promise.get_future();
  {
    const std::lock_guard lock(mutex_);
    tasks_.emplace([&] { promise.set_value(Child::Spawn(options)); });
  }
  changed_.notify_all();
  return future.get();
}

void SpawnThread::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
    if (tasks_.empty()) {
      return;
    }
    const auto task = std::move(tasks_.front());
    tasks_.pop();
    lock.unlock();
    task();
    lock.lock();
  }
}

}  // namespace bulkhead
