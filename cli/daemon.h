// The pod's daemon as this program sees it: a child to be, and a Task API to call.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/child.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "cli/globals.h"
#include "cli/pod_folder.h"
#include "rpc/ttrpc_client.h"
#include "shim/stdio_target.h"

namespace bulkhead::cli {

using shim::StdioPaths;

// A stand-in whose files were handed over as TOKEN (shim/fd_store.h).
struct StandInRef {
  pid_t pid = 0;
  std::string token;
};

enum class TaskStatus { kCreated, kRunning, kPaused, kStopped };
struct TaskState {
  TaskStatus status = TaskStatus::kStopped;
  int exit_status = 0;
};

// containerd's metrics message, of the cgroup version that its type names (shim/task_metrics.h).
struct TaskStats {
  std::string type;
  std::string metrics;
};

struct ProcessEntry {  // of Pids: one JSON object
  std::string json;
};

// The Task API in our own words. Thread-safe.
class TaskClient {
 public:
  using Timeout = rpc::TtrpcClient::Timeout;

  static Result<std::unique_ptr<TaskClient>> Connect(const std::string& socket,
                                                     const std::string& id);

  Status Create(const std::string& bundle, const std::vector<std::string>& overlay_options,
                bool terminal, const StdioPaths& stdio);
  // With config.json's own root, and a stand-in of ours.
  Status Create(const std::string& bundle, bool terminal, const StdioPaths& stdio,
                const StandInRef& stand_in);
  Status Exec(const std::string& exec_id, const std::string& process_json, bool terminal,
              const StdioPaths& stdio, const std::optional<StandInRef>& stand_in = std::nullopt);
  Status Start(const std::string& exec_id);
  // As a shell tells it.
  Result<int> Wait(const std::string& exec_id, Timeout timeout = std::nullopt);
  Status Kill(const std::string& exec_id, int signal, bool all = false);
  Status Resize(const std::string& exec_id, uint32_t width, uint32_t height);
  Status Delete(const std::string& exec_id);
  Status Shutdown();
  Result<std::vector<ProcessEntry>> Pids();
  Result<TaskState> State();
  Status Pause();
  Status Resume();
  Status Update(const std::string& resources_json);
  Result<TaskStats> Stats();
  bool lost() const { return client_->closed(); }  // the daemon is gone

 private:
  TaskClient(std::unique_ptr<rpc::TtrpcClient> client, std::string id)
      : client_(std::move(client)), id_(std::move(id)) {}

  std::unique_ptr<rpc::TtrpcClient> client_;
  const std::string id_;
};

// The daemon of a pod that this program started. Thread-safe.
class Daemon {
 public:
  struct Options {
    bool detached = false;
    bool auto_remove = false;
    std::string accel;
    std::string network;               // "user", or empty: none
    std::vector<std::string> publish;  // as shim::ToText() has them
  };
  // Hands on the lock and a listening socket.
  static Result<std::unique_ptr<Daemon>> Start(const Context& context, const Config& config,
                                               PodFolder& folder, const Options& options);

  // Asks it to end the pod and to give back all it holds: what happens too when we die.
  void CutLifeline();
  // The end of the process; nullopt when it still runs after that time.
  std::optional<sys::Exit> WaitEnd(std::chrono::milliseconds timeout);
  void Kill();
  void Detach();  // it lives on without us

 private:
  Daemon(Child child, UniqueFd lifeline)
      : child_(std::move(child)), lifeline_(std::move(lifeline)) {}

  std::mutex mutex_;
  Child child_;
  UniqueFd lifeline_;
};

}  // namespace bulkhead::cli
