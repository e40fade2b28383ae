#include "shim/process.h"

#include <signal.h>

#include <utility>

namespace bulkhead::shim {
namespace {

// How long a Delete waits for a client that reads slowly.
constexpr std::chrono::seconds kDrainTimeout(10);
// Output goes before the news of the end, unless it stops for so long (a child that lives on has it
// open, or the client does not read), or goes on and on.
constexpr std::chrono::milliseconds kOutputPause(250);
constexpr std::chrono::seconds kOutputTimeout(5);
// How long a Delete waits for the end of what it killed.
constexpr std::chrono::seconds kKillTimeout(10);

int64_t WallClockNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace

ProcessState Process::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

std::optional<Result<ProcessExit>> Process::exit() const {
  const std::lock_guard lock(mutex_);
  return exit_;
}

void Process::Release() {
  std::unique_lock lock(mutex_);
  --held_;
  Deliver(lock);
}

Status Process::Start(const std::function<void()>& on_started) {
  {
    const std::lock_guard lock(mutex_);
    if (state_ != ProcessState::kCreated || starting_) {
      return MakeError(ErrorCode::kFailedPrecondition, "{}",
                       state_ == ProcessState::kStopped ? "the process has ended"
                                                        : "the process was started already");
    }
    starting_ = true;
    ++held_;
  }
  auto started = DoStart();
  if (started) {
    const std::lock_guard lock(mutex_);
    if (state_ == ProcessState::kCreated) {
      state_ = ProcessState::kRunning;
    }
  }
  if (started) {
    on_started();
  }
  Release();
  return started;
}

void Process::SetExit(Result<ProcessExit> exit) {
  std::unique_lock lock(mutex_);
  if (exit_) {
    return;
  }
  state_ = ProcessState::kStopped;
  exit_ = std::move(exit);
  ended_.notify_all();
  Deliver(lock);
}

void Process::Deliver(std::unique_lock<std::mutex>& lock) {
  if (held_ > 0 || !exit_ || std::exchange(delivered_, true)) {
    return;
  }
  const Result<ProcessExit> exit = *exit_;
  lock.unlock();
  on_exit_(*this, exit);
  lock.lock();
  told_ = true;
  ended_.notify_all();
}

Result<ProcessExit> Process::Wait(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  if (!ended_.wait(lock, stop, [this] { return told_; })) {
    return MakeError(ErrorCode::kUnavailable, "the wait was cut off");
  }
  return *exit_;
}

Result<ProcessExit> Process::Delete(const OnDeleted& on_deleted) {
  const std::lock_guard deleting(delete_mutex_);
  if (deleted_) {
    return MakeError(ErrorCode::kNotFound, "the process is deleted already");
  }
  bool started = false;
  {
    const std::lock_guard lock(mutex_);
    if (state_ == ProcessState::kRunning || (starting_ && state_ == ProcessState::kCreated)) {
      return MakeError(ErrorCode::kFailedPrecondition, "the process is still running");
    }
    started = starting_;
  }
  if (!started) {
    (void)Signal(SIGKILL, false);
    std::unique_lock lock(mutex_);
    (void)ended_.wait_for(lock, kKillTimeout, [this] { return exit_.has_value(); });
  }
  const Status forgotten = DoDelete(started);
  deleted_ = true;
  Result<ProcessExit> result = exit().value_or(ProcessExit{});
  if (!exit() && !forgotten) {
    result = MakeError(ErrorCode::kUnavailable, "{}", forgotten.error().message());
  }
  on_deleted(result);
  return result;
}

GuestProcess::GuestProcess(std::shared_ptr<AgentClient> agent, ProcessName name, ProcessInfo info,
                           std::unique_ptr<StdioRelay> relay, Explain explain, OnExit on_exit)
    : Process(std::move(name), std::move(info), std::move(on_exit)),
      agent_(std::move(agent)),
      explain_(std::move(explain)),
      relay_(std::move(relay)) {
  relay_->Start(*agent_, this->name());
  waiter_ = std::thread([this] {
    auto result = agent_->WaitProcess(this->name(), wait_context_);
    if (!result) {
      const Error error = explain_(std::move(result).error());
      // Whatever code the guest chose: how it ended cannot be known any more.
      result = MakeError(ErrorCode::kUnavailable, "{}", error.message());
    }
    // ctr, for one, throws away what it has not read when it hears of the end.
    relay_->WaitQuiet(kOutputPause, kOutputTimeout);
    SetExit(std::move(result));
  });
}

GuestProcess::~GuestProcess() {
  relay_->Stop();
  wait_context_.TryCancel();
  waiter_.join();
}

Status GuestProcess::DoStart() {
  auto started = agent_->StartProcess(name());
  if (!started) {
    return tl::unexpected(explain_(std::move(started).error()));
  }
  return {};
}

Status GuestProcess::Signal(int signal, bool all) {
  const bool ended = state() == ProcessState::kStopped;
  // What an ended init left behind may still be there to be ended.
  auto sent = ended && !all ? Status() : agent_->SignalProcess(name(), signal, all);
  if (ended && !(all && sent)) {
    return MakeError(ErrorCode::kNotFound, "process already finished");
  }
  return sent;
}

Status GuestProcess::Resize(uint32_t rows, uint32_t columns) {
  if (!info().terminal) {
    return MakeError(ErrorCode::kFailedPrecondition, "the process has no terminal");
  }
  if (state() == ProcessState::kStopped) {
    return MakeError(ErrorCode::kFailedPrecondition, "the process has ended");
  }
  return agent_->ResizeTerminal(name(), rows, columns);
}

Status GuestProcess::DoDelete(bool was_started) {
  if (was_started) {
    relay_->WaitDrained(kDrainTimeout);
  }
  return agent_->DeleteProcess(name());
}

Status PauseProcess::Signal(int signal, bool /*all*/) {
  if (state() == ProcessState::kStopped) {
    return MakeError(ErrorCode::kNotFound, "process already finished");
  }
  // It is its namespace's first process: what it does not handle does not reach it.
  if (signal == SIGKILL) {
    SetExit(ProcessExit{128 + SIGKILL, SIGKILL, WallClockNs(), false});
  } else if (signal == SIGTERM || signal == SIGINT) {
    SetExit(ProcessExit{0, 0, WallClockNs(), false});
  }
  return {};
}

Status PauseProcess::Resize(uint32_t /*rows*/, uint32_t /*columns*/) {
  return MakeError(ErrorCode::kFailedPrecondition, "the process has no terminal");
}

Status PauseProcess::DoDelete(bool /*was_started*/) { return {}; }

}  // namespace bulkhead::shim
