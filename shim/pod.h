// A pod: one VM and the containers in it. What every face of Bulkhead ends in; knows nothing of
// ttrpc or command lines. Thread-safe; no lock is held while the guest is asked.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "base/spawn_thread.h"
#include "oci/spec.h"
#include "shim/config.h"
#include "shim/container_log.h"
#include "shim/process.h"
#include "shim/sandbox_vm.h"
#include "shim/storage.h"

namespace bulkhead::shim {

struct PodOptions {
  std::string id;
  std::string folder;    // private to the pod: share, sockets
  std::string log_path;  // of the first container's output; empty: none
  bool debug = false;
};

struct CreateOptions {
  std::string id;
  std::string bundle;
  std::vector<RootfsMount> rootfs;
  StdioPaths stdio;
};

class Pod {
 public:
  // The first container's init has ended.
  using OnExit = std::function<void(const Result<ProcessExit>&)>;

  Pod(Config config, PodOptions options, SpawnThread& spawner, Logger& logger, OnExit on_exit);
  ~Pod();

  // Boots the VM if there is none yet. Returns the init's pid in the guest.
  Result<int> Create(const CreateOptions& options);
  Result<int> Exec(const ProcessName& name, const std::string& process_json,
                   const StdioPaths& stdio);
  Status Start(const ProcessName& name);
  Result<ProcessExit> Delete(const ProcessName& name);
  Result<std::shared_ptr<GuestProcess>> Find(const ProcessName& name) const;
  Result<std::vector<pb::ListProcessesResponse::Entry>> Processes(const std::string& id);
  Result<std::string> Bundle(const std::string& id) const;

  // Ends the VM, in good order when it still answers. Later calls fail.
  void Shutdown();

 private:
  struct Container {
    std::string bundle;
    std::map<std::string, std::shared_ptr<GuestProcess>> processes;  // by exec id; null: reserved
  };

  Result<oci::Spec> ReadSpec(const CreateOptions& options) const;
  Result<AgentClient*> EnsureSandbox(const oci::Spec& spec);
  Result<SandboxRequest> SizeSandbox(const oci::Spec& spec) const;
  Result<std::shared_ptr<GuestProcess>> CreateInit(const CreateOptions& options);
  Status Reserve(const ProcessName& name, const std::string& bundle);
  void Forget(const ProcessName& name);
  Error Explain(Error error);

  const Config config_;
  const PodOptions options_;
  SpawnThread& spawner_;
  Logger& logger_;
  const OnExit on_exit_;
  Timeline timeline_;
  std::unique_ptr<ContainerLog> log_;

  std::mutex sandbox_mutex_;  // one boot at a time
  std::optional<SharedTree> shared_;
  Sandbox sandbox_;

  mutable std::mutex mutex_;
  std::map<std::string, Container> containers_;
  bool shut_down_ = false;
};

}  // namespace bulkhead::shim
