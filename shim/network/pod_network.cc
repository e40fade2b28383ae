#include "shim/network/pod_network.h"

#include <fcntl.h>

#include <algorithm>

#include "base/sys.h"
#include "shim/network/enter_netns.h"

namespace bulkhead::shim {
namespace {

constexpr char kVhostNet[] = "/dev/vhost-net";
constexpr char kOwnNetns[] = "/proc/thread-self/ns/net";

}  // namespace

Result<std::unique_ptr<PodNetwork>> PodNetwork::Open(UniqueFd netns, Logger& logger) {
  const struct stat theirs = TRY_AS(sys::FStat(netns.get()), "network namespace");
  const struct stat ours = TRY(sys::Stat(kOwnNetns));
  if (theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "the pod's network namespace is the host's: its interfaces stay where they "
                     "are");
  }
  auto netlink = std::make_shared<Netlink>(
      TRY_AS(InNetns(netns.get(), [] { return Netlink::Open(); }), "network namespace"));
  return std::unique_ptr<PodNetwork>(new PodNetwork(std::move(netns), std::move(netlink), logger));
}

Result<std::vector<hypervisor::NicConfig>> PodNetwork::BootNics() {
  const std::lock_guard lock(mutex_);
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
  return configs;
}

Result<agent::v1::Network> PodNetwork::Refresh(hypervisor::Vm& vm) {
  const std::lock_guard lock(mutex_);
  NetnsState state = TRY(Look());
  DropLinks(state);
  DetachLeaving(vm);
  TRY(AddLinks(state));
  for (auto& [index, nic] : nics_) {
    if (!nic.plugged) {
      TRY_AS(vm.AttachNic(TRY(ConfigOf(nic))), "interface {}", nic.link.interface().name);
      nic.plugged = true;
    }
  }
  if (const Status admitted = AdmitAll(); !admitted) {
    logger_.Warning(admitted.error().message());
  }
  return std::move(state.network);
}

Status PodNetwork::AdmitAnswers() {
  const std::lock_guard lock(mutex_);
  admits_answers_ = true;
  return AdmitAll();
}

Status PodNetwork::AdmitAll() {
  Status all;
  for (auto& [index, nic] : nics_) {
    Status admitted = admits_answers_ ? nic.link.AdmitAnswers() : Status();
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
    // But for the name: that the guest is told.
    HostInterface had = nic.link.interface();
    const bool stays = std::any_of(state.interfaces.begin(), state.interfaces.end(),
                                   [&](const HostInterface& interface) {
                                     had.name = interface.name;
                                     return interface == had;
                                   });
    if (!stays && nic.plugged) {
      leaving_.push_back(nic.id);
    }
    return !stays;
  });
}

Status PodNetwork::AddLinks(const NetnsState& state) {
  for (const HostInterface& interface : state.interfaces) {
    if (!nics_.contains(interface.index)) {
      TapLink link = TRY(TapLink::Create(netns_.get(), netlink_, interface));
      nics_.emplace(interface.index, Nic{fmt::format("net{}", next_id_++), std::move(link)});
    }
  }
  return {};
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
  UniqueFd vhost;
  if (sys::Exists(kVhostNet)) {
    vhost = TRY(sys::Open(kVhostNet, O_RDWR));
  }
  const HostInterface& interface = nic.link.interface();
  return hypervisor::TapNic(nic.id, interface.mac, interface.mtu, TRY(sys::Dup(nic.link.fd())),
                            std::move(vhost));
}

}  // namespace bulkhead::shim
