// What an engine or a CNI plugin has put into a pod's network namespace.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent.pb.h"
#include "base/netlink.h"
#include "hypervisor/nic.h"
#include "shim/network/tap_filters.h"

namespace bulkhead::shim {

// A pod has a handful of each; beyond this somebody has given us a router's namespace.
inline constexpr size_t kMaxInterfaces = 32;  // that have a NIC
inline constexpr size_t kMaxDescribed = 64;   // with VLANs, as the agent has it
inline constexpr size_t kMaxLinks = 4 * kMaxDescribed;
inline constexpr size_t kMaxAddresses = 1024;
inline constexpr size_t kMaxRoutes = 2048;  // of one family, with the kernel's own
inline constexpr size_t kMaxNeighbours = 4096;
inline constexpr size_t kMaxRules = 512;

// An interface that frames can be taken from.
struct HostInterface {
  uint32_t index = 0;
  std::string name;
  hypervisor::MacAddress mac{};
  uint32_t mtu = 0;
  std::string kind;  // "veth", "macvlan"; empty: a device
  // Of its NIC in the VM: `mac`, but where an interface before it has that (as two ipvlans of one
  // parent have) one of its own.
  hypervisor::MacAddress nic_mac{};
  bool operator==(const HostInterface&) const = default;
};

struct NetnsState {
  std::vector<HostInterface> interfaces;  // by index
  agent::v1::Network network;         // for the agent; routes to a link before those that use it
  std::vector<std::string> left_out;  // sentences: what the guest cannot be given, and why
  bool is_bare = true;                // nobody has put an interface there, carried or not
};

// Everything but lo, our own taps, and the table `local`, which the guest's kernel fills itself.
Result<NetnsState> ScanNetns(Netlink& netlink);

}  // namespace bulkhead::shim
