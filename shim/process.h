// One process of a pod, as its client knows it: its state and its end.
//   created -> running -> stopped        (created -> stopped when it ends before its start)
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

// What a client is told of a process, beside its name.
struct ProcessInfo {
  int pid = 0;
  StdioPaths stdio;
  bool terminal = false;
};

class Process {
 public:
  // Told of the end: once, after the state is kStopped, never while news are held back.
  using OnExit = std::function<void(const Process&, const Result<ProcessExit>&)>;

  // News are held back until Release(): so that nobody hears of the end before the creation.
  Process(ProcessName name, ProcessInfo info, OnExit on_exit)
      : name_(std::move(name)), info_(std::move(info)), on_exit_(std::move(on_exit)) {}
  virtual ~Process() = default;
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  const ProcessName& name() const { return name_; }
  const ProcessInfo& info() const { return info_; }
  ProcessState state() const;
  std::optional<Result<ProcessExit>> exit() const;
  void Release();

  // `on_started` runs before anybody hears of the process's end.
  Status Start(const std::function<void()>& on_started);
  // Blocks until the process has ended and OnExit was told, or `stop`.
  Result<ProcessExit> Wait(const std::stop_token& stop);
  // Only a process that does not run: ends one that was never started, forgets it in the guest when
  // its output was handed over. Once: after another call that did it, kNotFound.
  // kUnavailable: it is gone, and its exit code with it. `on_deleted` runs before that other call
  // hears of it.
  using OnDeleted = std::function<void(const Result<ProcessExit>&)>;
  Result<ProcessExit> Delete(const OnDeleted& on_deleted);

  virtual Status Signal(int signal, bool all) = 0;
  virtual Status Resize(uint32_t rows, uint32_t columns) = 0;
  virtual void CloseStdin() = 0;

 protected:
  virtual Status DoStart() = 0;
  virtual Status DoDelete(bool was_started) = 0;
  void SetExit(Result<ProcessExit> exit);

 private:
  void Deliver(std::unique_lock<std::mutex>& lock);

  const ProcessName name_;
  const ProcessInfo info_;
  const OnExit on_exit_;

  std::mutex delete_mutex_;  // one deletion at a time
  bool deleted_ = false;     // with delete_mutex_

  mutable std::mutex mutex_;
  std::condition_variable_any ended_;
  ProcessState state_ = ProcessState::kCreated;
  bool starting_ = false;
  int held_ = 1;
  bool delivered_ = false;  // OnExit is being told, by one thread
  bool told_ = false;
  std::optional<Result<ProcessExit>> exit_;
};

// A process in the guest.
class GuestProcess final : public Process {
 public:
  // Tells why a wait in the guest failed: the VM's end, if that is the reason.
  using Explain = std::function<Error(Error)>;

  // It exists in the guest, created and not started.
  GuestProcess(std::shared_ptr<AgentClient> agent, ProcessName name, ProcessInfo info,
               std::unique_ptr<StdioRelay> relay, Explain explain, OnExit on_exit);
  ~GuestProcess() override;

  Status Signal(int signal, bool all) override;
  Status Resize(uint32_t rows, uint32_t columns) override;
  void CloseStdin() override { relay_->CloseStdin(); }

 private:
  Status DoStart() override;
  Status DoDelete(bool was_started) override;

  const std::shared_ptr<AgentClient> agent_;
  const Explain explain_;
  std::unique_ptr<StdioRelay> relay_;
  grpc::ClientContext wait_context_;
  std::thread waiter_;
};

// The pause container of a CRI pod. The VM itself holds what the pod shares, so it needs no process
// in the guest; towards its client it behaves as the pause program does.
class PauseProcess final : public Process {
 public:
  using Process::Process;

  Status Signal(int signal, bool all) override;
  Status Resize(uint32_t rows, uint32_t columns) override;
  void CloseStdin() override {}
  // The VM is gone, and with it the pod.
  void End(const Error& error) { SetExit(tl::unexpected(error)); }

 private:
  Status DoStart() override { return {}; }
  Status DoDelete(bool was_started) override;
};

inline bool IsPause(const Process& process) {
  return dynamic_cast<const PauseProcess*>(&process) != nullptr;
}

}  // namespace bulkhead::shim
