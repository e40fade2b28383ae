// One process of a container, as the host knows it: its state, its stdio and its end.
//   created -> running -> stopped
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>

#include "base/result.h"
#include "shim/agent_client.h"
#include "shim/stdio_relay.h"

namespace bulkhead::shim {

enum class ProcessState { kCreated, kRunning, kStopped };

class GuestProcess {
 public:
  // Tells why a wait in the guest failed: the VM's end, if that is the reason.
  using Explain = std::function<Error(Error)>;
  using OnExit = std::function<void(const Result<ProcessExit>&)>;

  // It exists in the guest, created and not started. `agent` outlives it.
  GuestProcess(AgentClient& agent, ProcessName name, int pid, StdioPaths paths, bool terminal,
               std::unique_ptr<StdioRelay> relay);
  ~GuestProcess();
  GuestProcess(const GuestProcess&) = delete;
  GuestProcess& operator=(const GuestProcess&) = delete;

  const ProcessName& name() const { return name_; }
  int pid() const { return pid_; }
  const StdioPaths& paths() const { return paths_; }
  bool terminal() const { return terminal_; }
  ProcessState state() const;
  std::optional<Result<ProcessExit>> exit() const;

  // `explain` and `on_exit` are called from a thread of its own when the process has ended.
  Status Start(Explain explain, OnExit on_exit);
  Status Signal(int signal, bool all);
  Status Resize(uint32_t rows, uint32_t columns);
  void CloseStdin() { relay_->CloseStdin(); }
  // Blocks until the process has ended, or `stop`.
  Result<ProcessExit> Wait(const std::stop_token& stop);
  // Only a process that is not running: forgets it in the guest, when its output was handed over.
  Result<ProcessExit> Delete();

 private:
  void SetExit(Result<ProcessExit> exit);

  AgentClient& agent_;
  const ProcessName name_;
  const int pid_;
  const StdioPaths paths_;
  const bool terminal_;
  std::unique_ptr<StdioRelay> relay_;

  mutable std::mutex mutex_;
  std::condition_variable_any ended_;
  ProcessState state_ = ProcessState::kCreated;
  std::optional<Result<ProcessExit>> exit_;
  std::thread waiter_;
};

}  // namespace bulkhead::shim
