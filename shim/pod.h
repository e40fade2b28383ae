// A pod: one VM and the containers in it. What every face of Bulkhead ends in; knows nothing of
// ttrpc or command lines. Thread-safe; no lock is held while the guest is asked.
#pragma once

#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "base/spawn_thread.h"
#include "inspection.pb.h"
#include "oci/spec.h"
#include "shim/config.h"
#include "shim/container_log.h"
#include "shim/fd_store.h"
#include "shim/guest_memory.h"
#include "shim/guest_spec.h"
#include "shim/name_relay.h"
#include "shim/network/netns_watch.h"
#include "shim/network/pod_network.h"
#include "shim/network/user_network.h"
#include "shim/pod_events.h"
#include "shim/port_forwarder.h"
#include "shim/process.h"
#include "shim/root_drive.h"
#include "shim/sandbox_vm.h"
#include "shim/stand_in.h"
#include "shim/storage.h"

namespace bulkhead::shim {

inline constexpr char kStandInEnded[] = "the process that stands for it on the host was killed";

struct PodOptions {
  std::string id;
  std::string folder;    // private to the pod: share, sockets
  std::string log_path;  // of the first container's output; empty: none
  bool debug = false;
  // Served to an engine: containers have stand-ins on the host, fifos wait for their readers.
  bool for_engine = false;
  std::string engine_namespace;
  FdStore* fds = nullptr;  // what clients handed over; outlives the pod
  // The client runs the hooks of config.json; else a spec with hooks is refused.
  bool client_runs_hooks = false;
  UserNetwork* user_network = nullptr;  // instead of an engine's; outlives the pod
};

class Pod {
 public:
  // All references outlive the pod.
  Pod(Config config, PodOptions options, SpawnThread& spawner, Logger& logger, PodEvents& events);
  ~Pod();

  // Boots the VM if there is none yet. Returns the init's pid: the stand-in's where there is one,
  // else in the guest.
  Result<int> Create(const CreateOptions& options);
  Result<int> Exec(const ProcessName& name, const std::string& process_json,
                   const StdioPaths& stdio,
                   const std::shared_ptr<StandIn::Link>& stand_in = nullptr);
  Status Start(const ProcessName& name);
  Result<ProcessExit> Delete(const ProcessName& name);
  Status Pause(const std::string& id);
  Status Resume(const std::string& id);
  Result<std::shared_ptr<Process>> Find(const ProcessName& name) const;
  Result<std::vector<pb::ListProcessesResponse::Entry>> Processes(const std::string& id);
  // `resources_json`: the `linux.resources` object of config.json.
  Status Update(const std::string& id, const std::string& resources_json);
  struct Counters {
    pb::ContainerStatsResponse container;
    std::vector<InterfaceCounters> network;  // the pod's, which its containers share
  };
  Result<Counters> Stats(const std::string& id);

  struct ContainerState {
    std::string bundle;
    bool paused = false;
  };
  Result<ContainerState> StateOf(const std::string& id) const;
  bool HasContainers() const;
  inspection::v1::Pod Inspect();

  // Ends the VM, in good order when it still answers. Later calls fail.
  void Shutdown();

 private:
  struct Storage {
    SharedFolder folder;
    std::optional<RootDrive> drive;
    std::optional<RootDrive> upper_drive;
    std::optional<pb::WritableLayer> upper;

    // The agent's answer; its error knows drives by their serials alone.
    Result<int> Explain(Result<int> created) const;
  };
  struct Container {
    ContainerState state;
    std::map<std::string, std::unique_ptr<StandIn>> stand_ins;  // by exec id
    std::optional<Storage> storage;
    std::vector<std::shared_ptr<GuestMemory>> memory;
    std::map<std::string, std::shared_ptr<Process>> processes;  // by exec id; null: reserved
  };

  Result<oci::Spec> ReadSpec(const CreateOptions& options) const;
  Result<Sandbox> EnsureSandbox(const oci::Spec& spec, const std::string& id);
  Result<Sandbox> BootSandbox(const oci::Spec& spec, const std::string& id);
  Status OpenNetwork(const Config& config, const oci::Spec& spec, const std::string& id);
  // Gives the guest what is in the pod's network namespace by now.
  Status RefreshNetwork(const Sandbox& sandbox);
  void FollowNetwork(const Sandbox& sandbox);
  // An error when all that the engine has put there is lacking; a warning where it put nothing.
  Status CheckNetwork(const Process& init);
  void RelayNames(const Sandbox& sandbox);
  void ForwardPorts(const Sandbox& sandbox);
  // For those who must not wait for the guest. Null: the pod has none.
  std::shared_ptr<PodNetwork> Network() const;
  Result<SandboxRequest> SizeSandbox(const Config& config, const oci::Spec& spec) const;
  Result<Sandbox> RunningSandbox() const;
  Result<std::shared_ptr<Process>> CreateInit(const CreateOptions& options);
  Result<std::shared_ptr<Process>> CreateInGuest(const CreateOptions& options, const PodRole& role,
                                                 oci::Spec spec);
  Result<std::shared_ptr<Process>> CreateExec(const ProcessName& name,
                                              const std::string& process_json,
                                              const StdioPaths& stdio, int stand_in);
  // For the container and, with it, for its sandbox.
  Result<std::string> SharedMemoryFor(const std::string& id, const PodRole& role,
                                      const std::string& source, const MemoryVolume& volume);
  // Makes the container's files reachable in the guest and the spec speak of them.
  Result<Storage> AddStorage(const CreateOptions& options, const Sandbox& sandbox, oci::Spec& spec);
  Result<SharedFolder> Share(const CreateOptions& options, bool fixed, oci::Spec& spec);
  Status AddUpper(const Config& config, const Sandbox& sandbox, const oci::Spec& spec,
                  Storage& storage);
  std::string NextSerial();
  static pb::CreateContainerRequest CreateRequest(const CreateOptions& options,
                                                  const oci::Spec& spec, const Storage& storage);
  Status CheckRole(const PodRole& role, const CreateOptions& options) const;
  Status StartStandIn(const std::string& id, const oci::Spec& spec);
  Status AdoptStandIn(const ProcessName& name, StandIn::Link link);
  StandIn::Events StandInEvents(const ProcessName& name);
  void OnStandInEnd(const ProcessName& name);
  // The stand-in's process ended.
  void TellStandIn(const Process& process, const Result<ProcessExit>& exit);
  int PidOfStandIn(const ProcessName& name) const;  // 0: it has none
  void ForgetEnded();
  std::optional<std::string> OwnerOfStandIn(int pid) const;
  StdioPolicy PolicyFor(const std::string& container_id) const;
  Status Reserve(const ProcessName& name, const std::string& bundle);
  Status Publish(const std::shared_ptr<Process>& process);
  void Forget(const ProcessName& name);
  Error Explain(Error error) const;
  Process::OnExit OnExit();
  void WatchVm();
  void ReadEvents();

  const Config config_;
  const PodOptions options_;
  SpawnThread& spawner_;
  Logger& logger_;
  PodEvents& events_;
  Timeline timeline_;
  std::unique_ptr<ContainerLog> log_;

  std::mutex boot_mutex_;  // one boot at a time
  std::optional<SharedTree> shared_;
  std::mutex network_mutex_;             // one description at a time, in order
  std::shared_ptr<PodNetwork> network_;  // changed under mutex_, too
  std::unique_ptr<NameRelay> names_;
  std::unique_ptr<NetnsWatch> network_watch_;
  std::unique_ptr<PortForwarder> forwarder_;
  std::atomic<bool> forwards_ports_{false};
  std::atomic<bool> relays_names_{false};
  UniqueFd stop_watching_;
  std::thread vm_watch_;
  grpc::ClientContext events_context_;
  std::thread event_reader_;
  std::thread sweeper_;

  mutable std::mutex mutex_;
  Sandbox sandbox_;
  std::map<std::string, Container> containers_;
  uint64_t drive_count_ = 0;                                  // ever attached
  std::mutex memory_mutex_;                                   // one at a time is made
  uint64_t memory_count_ = 0;                                 // ever made
  std::map<std::string, std::weak_ptr<GuestMemory>> memory_;  // by its source's identity
  bool vm_over_ = false;                                      // and whoever waited for it was told
  bool shut_down_ = false;
  std::condition_variable ended_changed_;
  std::vector<ProcessName> ended_;  // execs of clients that do not ask for their deletion
  bool sweep_over_ = false;
};

}  // namespace bulkhead::shim
