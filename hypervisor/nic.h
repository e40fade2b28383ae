// A network interface that is plugged into a VM.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead::hypervisor {

using MacAddress = std::array<uint8_t, 6>;

// "02:00:00:00:00:01"
std::string FormatMac(const MacAddress& mac);

struct NicConfig {
  std::string id;       // 1 to 20 of [A-Za-z0-9._-], unique in the VM
  MacAddress mac{};     // how the guest finds it: of one station, not of a group, not all zeros
  uint32_t mtu = 1500;  // 68 to 65535: the most that the guest's interface may have
  // Of /dev/net/tun, with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR: frames that the guest sends come out
  // of the tap.
  UniqueFd tap;
  // Of /dev/vhost-net, whose thread then carries the frames; none: QEMU does.
  UniqueFd vhost;
};

// Why it cannot be one.
Status CheckNic(const NicConfig& nic);

}  // namespace bulkhead::hypervisor
