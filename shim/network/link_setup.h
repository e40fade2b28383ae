// Devices that serve a VM, as they are set up in the pod's network namespace.
#pragma once

#include <cstdint>
#include <string>

#include "base/netlink.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead::shim {

// One more queue of a tap: by /dev/net/tun and its name, which is made if it is new, or by the
// device file of a macvtap, which has its name (empty). `flags`: beside those of every queue,
// IFF_TAP, IFF_NO_PI and IFF_VNET_HDR.
Result<UniqueFd> OpenQueue(const std::string& path, const std::string& name, int flags);
Result<uint32_t> IndexOfLink(Netlink& netlink, const std::string& name);
// No IPv6 address: its own stack would greet the guest as a neighbour.
Status SilenceIpv6(Netlink& netlink, uint32_t index);
Status BringUp(Netlink& netlink, uint32_t index, uint32_t mtu);
// One that is gone is success.
Status RemoveLink(Netlink& netlink, uint32_t index);

}  // namespace bulkhead::shim
