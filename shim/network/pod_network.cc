#include "shim/network/pod_network.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>

#include "base/scope_guard.h"
#include "base/sys.h"
#include "shim/network/enter_netns.h"
#include "shim/network/macvtap_link.h"
#include "shim/network/tap_link.h"
#include "shim/network/wiring.h"

namespace bulkhead::shim {
namespace {

constexpr char kVhostNet[] = "/dev/vhost-net";

// Whether a NIC for the one does for the other: a name and a smaller MTU the guest is told.
bool Serves(HostInterface had, const HostInterface& now) {
  had.name = now.name;
  had.mtu = std::min(had.mtu, now.mtu);
  return had == now;
}

}  // namespace

Result<std::unique_ptr<PodNetwork>> PodNetwork::Open(UniqueFd netns, NetworkModel model,
                                                     Logger& logger) {
  if (TRY_AS(IsOwnNetns(netns.get()), "network namespace")) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "the pod's network namespace is the host's: its interfaces stay where they "
                     "are");
  }
  const auto open = [&] { return InNetns(netns.get(), [] { return Netlink::Open(); }); };
  auto netlink = std::make_shared<Netlink>(TRY_AS(open(), "network namespace"));
  Netlink questions = TRY_AS(open(), "network namespace");
  std::unique_ptr<PodNetwork> network(
      new PodNetwork(std::move(netns), model, std::move(netlink), std::move(questions), logger));
  network->fresh_reader_ =
      std::thread([self = network.get()] { self->fresh_ = ReadFreshSysctls(); });
  return network;
}

PodNetwork::~PodNetwork() {
  if (fresh_reader_.joinable()) {
    fresh_reader_.join();
  }
}

Result<std::vector<hypervisor::NicConfig>> PodNetwork::BootNics(uint32_t vcpus) {
  const std::lock_guard lock(mutex_);
  queues_ = std::clamp<size_t>(vcpus, 1, hypervisor::kMaxNicQueues);
  const NetnsState state = TRY(Look());
  DropLinks(state);
  leaving_.clear();  // with the VM that had them
  TRY(AddLinks(state));
  std::vector<hypervisor::NicConfig> configs;
  for (const auto& [index, nic] : nics_) {
    configs.push_back(TRY(ConfigOf(nic)));
  }
  for (auto& [index, nic] : nics_) {
    nic.plugged = true;
  }
  TakeSnapshot(state);
  return configs;
}

Result<agent::v1::Network> PodNetwork::Refresh(hypervisor::Vm& vm) {
  const std::lock_guard lock(mutex_);
  NetnsState state = TRY(Look());
  const ScopeGuard snapshot([&] { TakeSnapshot(state); });  // also of what has failed
  DropLinks(state);
  DetachLeaving(vm);
  TRY(AddLinks(state));
  for (auto& [index, nic] : nics_) {
    if (!nic.plugged) {
      TRY_AS(vm.AttachNic(TRY(ConfigOf(nic))), "interface {}", nic.link->interface().name);
      nic.plugged = true;
    }
  }
  if (const Status admitted = AdmitAll(); !admitted) {
    logger_.Warning(admitted.error().message());
  }
  const Sysctls& sysctls = SysctlsOf(state);
  state.network.mutable_sysctls()->insert(sysctls.begin(), sysctls.end());
  return state.network;
}

const Sysctls& PodNetwork::SysctlsOf(const NetnsState& state) {
  std::vector<std::pair<uint32_t, std::string>> interfaces;
  for (const HostInterface& interface : state.interfaces) {
    interfaces.emplace_back(interface.index, interface.name);
  }
  if (fresh_reader_.joinable()) {
    fresh_reader_.join();
    if (!fresh_) {
      logger_.Warning("kernel parameters of the pod's network namespace do not reach the guest: " +
                      fresh_.error().message());
    }
  }
  if (!sysctls_ || interfaces != sysctls_of_) {
    const auto all = fresh_ ? ReadSysctls(netns_.get()) : Sysctls();
    if (!all) {
      logger_.Warning("kernel parameters of the pod's network namespace: " + all.error().message());
    }
    sysctls_ = all ? ChangedSysctls(*all, fresh_.value_or(Sysctls())) : Sysctls();
    sysctls_of_ = std::move(interfaces);
  }
  return *sysctls_;
}

Status PodNetwork::AdmitAnswers() {
  const std::lock_guard lock(mutex_);
  admits_answers_ = true;
  return AdmitAll();
}

Status PodNetwork::AdmitAll() {
  Status all;
  for (auto& [index, nic] : nics_) {
    Status admitted = admits_answers_ ? nic.link->AdmitAnswers() : Status();
    if (!admitted) {
      all = std::move(admitted);
    }
  }
  return all;
}

Result<NetnsState> PodNetwork::Look() {
  NetnsState state = TRY_AS(ScanNetns(*netlink_), "the pod's network namespace");
  if (state.left_out != left_out_) {
    for (const std::string& what : state.left_out) {
      logger_.Warning("not in the guest's network: " + what);
    }
    left_out_ = state.left_out;
  }
  return state;
}

void PodNetwork::DropLinks(const NetnsState& state) {
  std::erase_if(nics_, [&](const auto& entry) {
    const Nic& nic = entry.second;
    const bool stays =
        std::any_of(state.interfaces.begin(), state.interfaces.end(),
                    [&](const HostInterface& now) { return Serves(nic.link->interface(), now); });
    if (!stays && nic.plugged) {
      leaving_.push_back(nic.id);
    }
    return !stays;
  });
}

Status PodNetwork::AddLinks(const NetnsState& state) {
  for (const HostInterface& interface : state.interfaces) {
    if (!nics_.contains(interface.index)) {
      std::unique_ptr<FrameLink> link = TRY(MakeLink(interface));
      nics_.emplace(interface.index, Nic{fmt::format("net{}", next_id_++), std::move(link)});
    }
  }
  return {};
}

Result<std::unique_ptr<FrameLink>> PodNetwork::MakeLink(const HostInterface& interface) {
  if (model_ == NetworkModel::kMacvtap && MacvtapLink::CanServe(interface)) {
    return std::make_unique<MacvtapLink>(
        TRY(MacvtapLink::Create(netns_.get(), netlink_, interface, queues_)));
  }
  return std::make_unique<TapLink>(
      TRY(TapLink::Create(netns_.get(), netlink_, interface, queues_)));
}

void PodNetwork::DetachLeaving(hypervisor::Vm& vm) {
  std::erase_if(leaving_, [&](const std::string& id) {
    const Status detached = vm.DetachNic(id);
    if (!detached && detached.error().code() != ErrorCode::kNotFound) {
      logger_.Warning(detached.error().message());
      return false;  // again next time
    }
    return true;
  });
}

Result<hypervisor::NicConfig> PodNetwork::ConfigOf(const Nic& nic) {
  hypervisor::TapBackend tap;
  const bool has_vhost = sys::Exists(kVhostNet);
  for (const UniqueFd& queue : nic.link->queues()) {
    tap.queues.push_back(TRY(sys::Dup(queue.get())));
    if (has_vhost) {
      tap.vhost.push_back(TRY(sys::Open(kVhostNet, O_RDWR)));
    }
  }
  const HostInterface& interface = nic.link->interface();
  return hypervisor::NicConfig{nic.id, interface.nic_mac, interface.mtu, std::move(tap)};
}

void PodNetwork::TakeSnapshot(const NetnsState& state) {
  Snapshot snapshot{{}, state.network, state.left_out, state.is_bare};
  for (const auto& [index, nic] : nics_) {
    snapshot.carried.push_back({nic.link->interface(), nic.id, nic.link->name(), nic.link->model(),
                                nic.link->queues().size(), sys::Exists(kVhostNet), nic.plugged});
  }
  const std::lock_guard lock(snapshot_mutex_);
  snapshot_ = std::move(snapshot);
}

inspection::v1::Network PodNetwork::Inspect() const {
  const std::lock_guard lock(snapshot_mutex_);
  inspection::v1::Network network = DescribeWiring(snapshot_.described, snapshot_.carried);
  network.set_kind("namespace");
  network.mutable_left_out()->Assign(snapshot_.left_out.begin(), snapshot_.left_out.end());
  return network;
}

bool PodNetwork::IsBare() const {
  const std::lock_guard lock(snapshot_mutex_);
  return snapshot_.is_bare;
}

std::vector<InterfaceCounters> PodNetwork::Counters() const {
  const std::lock_guard lock(snapshot_mutex_);
  std::vector<InterfaceCounters> counters;
  for (const CarriedInterface& carried : snapshot_.carried) {
    if (auto read = ReadCounters(questions_, carried.interface.index)) {  // else it just went
      counters.push_back(std::move(*read));
    }
  }
  return counters;
}

Status PodNetwork::CheckCarried() const {
  const std::lock_guard lock(snapshot_mutex_);
  if (snapshot_.is_bare || !snapshot_.carried.empty()) {
    return {};
  }
  return MakeError(ErrorCode::kFailedPrecondition,
                   "none of the interfaces in the pod's network namespace can be carried into the "
                   "VM: {}",
                   fmt::join(snapshot_.left_out, "; "));
}

}  // namespace bulkhead::shim
