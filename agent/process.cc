#include "agent/process.h"

#include <signal.h>

#include <cerrno>
#include <chrono>

#include "agent/launch.h"

namespace bulkhead::agent {

ProcessState Process::state() const {
  const std::scoped_lock lock(mutex_);
  return state_;
}

pid_t Process::pid() const {
  const std::scoped_lock lock(mutex_);
  return pid_;
}

std::shared_ptr<Stdio> Process::stdio() const {
  const std::scoped_lock lock(mutex_);
  return stdio_;
}

Status Process::Advance(ProcessEvent event) {
  state_ = TRY(NextState(state_, event));
  changed_.notify_all();
  return {};
}

void Process::Born(pid_t pid, UniqueFd pidfd) {
  const std::scoped_lock lock(mutex_);
  pid_ = pid;
  pidfd_ = std::move(pidfd);
}

void Process::Ready(UniqueFd sync, std::shared_ptr<Stdio> stdio) {
  const std::scoped_lock lock(mutex_);
  sync_ = std::move(sync);
  stdio_ = std::move(stdio);
  static_cast<void>(Advance(ProcessEvent::kReady));
}

void Process::Exited(sys::Exit exit, uint64_t oom_kills) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  std::map<Waiter, OnExit> waiters;
  ProcessExit result{exit, std::chrono::nanoseconds(now).count(), false};
  {
    const std::scoped_lock lock(mutex_);
    // A shell reports the kill of its child as 137.
    const bool killed = exit.signal == SIGKILL || exit.code == 128 + SIGKILL;
    result.oom_killed = killed && oom_kills > oom_baseline_;
    exit_ = result;
    waiters.swap(waiters_);
    static_cast<void>(Advance(ProcessEvent::kExit));
  }
  for (const auto& [id, waiter] : waiters) {
    waiter(result);
  }
}

Status Process::Start() {
  UniqueFd sync;
  {
    const std::scoped_lock lock(mutex_);
    TRY(Advance(ProcessEvent::kStart));
    sync = std::move(sync_);
  }
  if (auto sent = sys::SendWithFds(sync.get(), "go", {}); !sent) {
    return MakeError(ErrorCode::kFailedPrecondition, "the process has ended before its start");
  }
  const auto report = TRY(ReceiveReport(sync.get()));
  if (report && report->error) {
    WaitForExit();  // it ends by itself after such news
    return tl::unexpected<Error>(*report->error);
  }
  const std::scoped_lock lock(mutex_);
  return Advance(ProcessEvent::kStarted);
}

Status Process::Signal(int signal) const {
  const std::scoped_lock lock(mutex_);
  if (exit_ || !pidfd_) {
    return MakeError(ErrorCode::kNotFound, "the process has ended");
  }
  return sys::PidfdSendSignal(pidfd_.get(), signal);
}

Result<UniqueFd> Process::Pidfd() const {
  const std::scoped_lock lock(mutex_);
  if (state_ != ProcessState::kRunning && state_ != ProcessState::kCreated &&
      state_ != ProcessState::kStarting) {
    return MakeError(ErrorCode::kFailedPrecondition, "the container's init is {}",
                     StateName(state_));
  }
  return sys::Dup(pidfd_.get());
}

Status Process::MarkDeleted() {
  const std::scoped_lock lock(mutex_);
  return Advance(ProcessEvent::kDelete);
}

void Process::WaitForExit() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return exit_.has_value(); });
}

Process::Waiter Process::AddWaiter(OnExit on_exit) {
  std::optional<ProcessExit> exit;
  {
    const std::scoped_lock lock(mutex_);
    if (!exit_) {
      waiters_.emplace(next_waiter_, std::move(on_exit));
      return next_waiter_++;
    }
    exit = exit_;
  }
  on_exit(*exit);
  return 0;
}

bool Process::RemoveWaiter(Waiter waiter) {
  const std::scoped_lock lock(mutex_);
  return waiters_.erase(waiter) != 0;
}

}  // namespace bulkhead::agent
