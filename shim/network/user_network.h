// A network for a pod without one of an engine: the guest's traffic becomes ordinary connections of
// the host, by passt or, without it, by QEMU itself (libslirp). Nothing of the host is set up.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "agent.pb.h"
#include "base/log.h"
#include "base/result.h"
#include "base/spawn_thread.h"
#include "hypervisor/nic.h"
#include "inspection.pb.h"
#include "shim/network/host_resolver.h"
#include "shim/network/loopback_filter.h"
#include "shim/network/passt.h"
#include "shim/network/published_ports.h"

namespace bulkhead::shim {

struct UserNetworkOptions {
  bool may_use_passt = true;
  bool may_use_slirp = true;
  std::string passt;  // the program; empty: there is none
  std::vector<PublishedPorts> ports;
};

class UserNetwork {
 public:
  // What keeps the guest from servers at the host's loopback. Errors: the kernel lacks something,
  // or denies it.
  static Result<LoopbackFilter> MakeFilter(const UserNetworkOptions& options);

  // Begins to start passt, beside other work; what goes wrong is told later. References outlive it.
  UserNetwork(UserNetworkOptions options, std::optional<LoopbackFilter> filter,
              SpawnThread& spawner, Logger& logger);
  ~UserNetwork() { Stop(); }
  // Gives everything back, after the VM's end. While BootNics() still waits it does nothing: what
  // there is goes with this process then.
  void Stop();

  // For a VM that is to be started, or started again. Waits until what carries its frames is ready.
  Result<std::vector<hypervisor::NicConfig>> BootNics();
  // That VM's process, before anybody's program runs in the guest. If it carries its frames itself
  // its connections are bounded.
  void Confine(pid_t vm);
  // For the agent, once there is a VM.
  agent::v1::Network Describe() const;
  inspection::v1::Network Inspect() const;

 private:
  Result<Passt> StartPasst();
  Result<hypervisor::NicConfig> PasstNic();
  Result<hypervisor::NicConfig> SlirpNic();
  // Reads what passt says, and tells of its end.
  void Watch(Passt passt, UniqueFd stop);
  void StopWatching();

  const UserNetworkOptions options_;
  SpawnThread& spawner_;
  Logger& logger_;
  const HostResolver resolver_;
  const bool prefers_passt_;
  std::mutex mutex_;
  std::optional<LoopbackFilter> filter_;
  std::optional<Result<Passt>> passt_;  // started, and not yet asked for
  Passt::Families families_;
  uint32_t mtu_ = 0;
  bool in_qemu_ = false;
  UniqueFd stop_watching_;
  std::thread watch_;
};

}  // namespace bulkhead::shim
