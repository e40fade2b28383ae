// One process that the agent made: a container's init, or one that was exec'ed into it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "agent/process_state.h"
#include "agent/stdio.h"
#include "base/result.h"
#include "base/sys.h"
#include "base/unique_fd.h"

namespace bulkhead::agent {

struct ProcessExit {
  sys::Exit exit;
  int64_t at_ns = 0;  // CLOCK_REALTIME
  bool oom_killed = false;
};

class Process {
 public:
  using OnExit = std::function<void(const ProcessExit&)>;
  using Waiter = uint64_t;

  explicit Process(std::string exec_id) : exec_id_(std::move(exec_id)) {}
  const std::string& exec_id() const { return exec_id_; }
  ProcessState state() const;
  pid_t pid() const;
  std::shared_ptr<Stdio> stdio() const;

  // While it is made.
  void Born(pid_t pid, UniqueFd pidfd);
  void Ready(UniqueFd sync, std::shared_ptr<Stdio> stdio);
  // By the reaper. `oom_kills`: how many there were when it ended.
  void Exited(sys::Exit exit, uint64_t oom_kills);
  void SetOomBaseline(uint64_t kills) { oom_baseline_ = kills; }

  // Tells it to exec and waits for the outcome.
  Status Start();
  Status Signal(int signal) const;
  // Its pidfd, for setns; kFailedPrecondition when it has ended.
  Result<UniqueFd> Pidfd() const;
  Status MarkDeleted();
  // Blocks.
  void WaitForExit();
  // Calls back once, at once when it has ended already. From any thread.
  Waiter AddWaiter(OnExit on_exit);
  // False: the callback has run or is about to.
  bool RemoveWaiter(Waiter waiter);

 private:
  Status Advance(ProcessEvent event);  // with the lock

  const std::string exec_id_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  ProcessState state_ = ProcessState::kCreating;
  pid_t pid_ = -1;
  UniqueFd pidfd_;
  UniqueFd sync_;
  std::shared_ptr<Stdio> stdio_;
  uint64_t oom_baseline_ = 0;
  std::optional<ProcessExit> exit_;
  std::map<Waiter, OnExit> waiters_;
  Waiter next_waiter_ = 1;
};

}  // namespace bulkhead::agent
