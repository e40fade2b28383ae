// The pod's network on the host's side: each interface of its namespace is a NIC of its VM.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "agent.pb.h"
#include "base/log.h"
#include "base/netlink.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "hypervisor/hypervisor.h"
#include "inspection.pb.h"
#include "shim/network/carried_interface.h"
#include "shim/network/frame_link.h"
#include "shim/network/interface_counters.h"
#include "shim/network/netns_scan.h"
#include "shim/network/netns_sysctls.h"

namespace bulkhead::shim {

// How interfaces are joined to NICs: kMacvtap only where one can be made (macvtap_link.h).
enum class NetworkModel { kTrafficControl, kMacvtap };

// Thread-safe. Interfaces may come, change and go as long as the pod lives: they are looked at when
// it is asked to. The destructor puts the namespace back; the NICs end with the VM, before or
// after.
class PodNetwork {
 public:
  // Changes nothing yet. kInvalidArgument when the namespace is the one that this process is in:
  // the host would lose its own network. `logger` must outlive it.
  static Result<std::unique_ptr<PodNetwork>> Open(UniqueFd netns, NetworkModel model,
                                                  Logger& logger);

  ~PodNetwork();

  int netns() const { return netns_.get(); }

  // For a VM that is to be started: a NIC for each interface that is there, with a queue for each
  // CPU. May be asked again for another VM, when the first is gone.
  Result<std::vector<hypervisor::NicConfig>> BootNics(uint32_t vcpus);
  // Plugs in what has come and takes out what has gone; `vm` is the one of BootNics(), or none was
  // started with any. The agent has to have answered. What comes back is for AgentClient's
  // SetNetwork(). Errors name the interface; the others are then as they were.
  Result<agent::v1::Network> Refresh(hypervisor::Vm& vm);
  // From now on answers of other name servers reach the one that the engine has in the namespace;
  // interfaces that come later are seen to by Refresh(). Errors name the interface; others are
  // done.
  Status AdmitAnswers();

  // Of what was carried at the end of the last BootNics() or Refresh(); none of them waits for the
  // VM.
  inspection::v1::Network Inspect() const;
  bool IsBare() const;  // nobody had put an interface there
  // kFailedPrecondition: there were interfaces, and the guest was given none of them.
  Status CheckCarried() const;
  // What has passed through each, in this moment.
  std::vector<InterfaceCounters> Counters() const;

 private:
  struct Nic {
    std::string id;  // in the VM
    std::unique_ptr<FrameLink> link;
    bool plugged = false;
  };

  struct Snapshot {
    std::vector<CarriedInterface> carried;
    agent::v1::Network described;
    std::vector<std::string> left_out;
    bool is_bare = true;
  };

  PodNetwork(UniqueFd netns, NetworkModel model, std::shared_ptr<Netlink> netlink,
             Netlink questions, Logger& logger)
      : netns_(std::move(netns)),
        model_(model),
        netlink_(std::move(netlink)),
        logger_(logger),
        questions_(std::move(questions)) {}

  // All under the lock.
  Result<NetnsState> Look();
  // Those that went, or are no longer what the guest was given.
  void DropLinks(const NetnsState& state);
  Status AddLinks(const NetnsState& state);
  Result<std::unique_ptr<FrameLink>> MakeLink(const HostInterface& interface);
  void DetachLeaving(hypervisor::Vm& vm);
  Status AdmitAll();
  // What is changed in the namespace; read anew when interfaces have come or gone.
  const Sysctls& SysctlsOf(const NetnsState& state);
  void TakeSnapshot(const NetnsState& state);
  static Result<hypervisor::NicConfig> ConfigOf(const Nic& nic);

  const UniqueFd netns_;
  const NetworkModel model_;
  const std::shared_ptr<Netlink> netlink_;
  Logger& logger_;
  std::mutex mutex_;
  std::map<uint32_t, Nic> nics_;       // by index of the interface
  std::vector<std::string> leaving_;   // ids of NICs without an interface that the VM still has
  std::vector<std::string> left_out_;  // as it was last told
  size_t queues_ = 1;                  // of each NIC
  uint64_t next_id_ = 0;
  bool admits_answers_ = false;
  Result<Sysctls> fresh_;                                     // of the thread, until it has ended
  std::vector<std::pair<uint32_t, std::string>> sysctls_of_;  // these interfaces
  std::optional<Sysctls> sysctls_;

  mutable std::mutex snapshot_mutex_;  // held for a moment only
  mutable Netlink questions_;
  Snapshot snapshot_;

  std::thread fresh_reader_;  // beside the VM's start
};

}  // namespace bulkhead::shim
