#include "shim/process.h"

#include <signal.h>

#include <utility>

namespace bulkhead::shim {
namespace {

// How long a Delete waits for a client that reads slowly.
constexpr std::chrono::seconds kDrainTimeout(10);

}  // namespace

GuestProcess::GuestProcess(AgentClient& agent, ProcessName name, int pid, StdioPaths paths,
                           bool terminal, std::unique_ptr<StdioRelay> relay)
    : agent_(agent),
      name_(std::move(name)),
      pid_(pid),
      paths_(std::move(paths)),
      terminal_(terminal),
      relay_(std::move(relay)) {
  relay_->Start(agent_, name_);
}

GuestProcess::~GuestProcess() {
  relay_.reset();
  if (waiter_.joinable()) {
    waiter_.join();
  }
}

ProcessState GuestProcess::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

std::optional<Result<ProcessExit>> GuestProcess::exit() const {
  const std::lock_guard lock(mutex_);
  return exit_;
}

Status GuestProcess::Start(Explain explain, OnExit on_exit) {
  {
    const std::lock_guard lock(mutex_);
    if (state_ != ProcessState::kCreated || waiter_.joinable()) {
      return MakeError(ErrorCode::kFailedPrecondition, "the process was started already");
    }
    // Asked before the start: an end that comes at once is not missed.
    waiter_ = std::thread([this, explain, on_exit] {
      auto result = agent_.WaitProcess(name_);
      if (!result) {
        result = tl::unexpected(explain(std::move(result).error()));
      }
      on_exit(result);
      SetExit(std::move(result));
    });
  }
  auto started = agent_.StartProcess(name_);
  if (!started) {
    return tl::unexpected(explain(std::move(started).error()));
  }
  const std::lock_guard lock(mutex_);
  if (state_ == ProcessState::kCreated) {
    state_ = ProcessState::kRunning;
  }
  return {};
}

void GuestProcess::SetExit(Result<ProcessExit> exit) {
  const std::lock_guard lock(mutex_);
  state_ = ProcessState::kStopped;
  exit_ = std::move(exit);
  ended_.notify_all();
}

Status GuestProcess::Signal(int signal, bool all) {
  if (state() == ProcessState::kStopped) {
    return MakeError(ErrorCode::kNotFound, "process already finished");
  }
  return agent_.SignalProcess(name_, signal, all);
}

Status GuestProcess::Resize(uint32_t rows, uint32_t columns) {
  return agent_.ResizeTerminal(name_, rows, columns);
}

Result<ProcessExit> GuestProcess::Wait(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  if (!ended_.wait(lock, stop, [this] { return exit_.has_value(); })) {
    return MakeError(ErrorCode::kUnavailable, "the wait was cut off");
  }
  return *exit_;
}

Result<ProcessExit> GuestProcess::Delete() {
  if (state() == ProcessState::kRunning) {
    return MakeError(ErrorCode::kFailedPrecondition, "the process is still running");
  }
  if (state() == ProcessState::kCreated) {
    // Never started: nothing waits for it, and it cannot have written anything.
    (void)agent_.SignalProcess(name_, SIGKILL, false);
    (void)agent_.WaitProcess(name_);
  } else {
    relay_->WaitDrained(kDrainTimeout);
  }
  const auto deleted = agent_.DeleteProcess(name_);
  const auto ended = exit();
  if (ended) {
    return *ended;
  }
  TRY(Status(deleted));
  return ProcessExit{};
}

}  // namespace bulkhead::shim
