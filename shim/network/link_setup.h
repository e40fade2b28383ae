// Devices that serve a VM, as they are set up in the pod's network namespace.
#pragma once

#include <cstdint>
#include <string>

#include "base/netlink.h"
#include "base/result.h"

namespace bulkhead::shim {

Result<uint32_t> IndexOfLink(Netlink& netlink, const std::string& name);
// No IPv6 address: its own stack would greet the guest as a neighbour.
Status SilenceIpv6(Netlink& netlink, uint32_t index);
Status BringUp(Netlink& netlink, uint32_t index, uint32_t mtu);
// One that is gone is success.
Status RemoveLink(Netlink& netlink, uint32_t index);

}  // namespace bulkhead::shim
