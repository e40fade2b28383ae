// The network that the kernel has: reads it, and carries out one change of it.
#pragma once

#include "agent/netlink.h"
#include "agent/network_types.h"
#include "base/result.h"

namespace bulkhead::agent {

Result<std::vector<Link>> ReadLinks(NetlinkSocket& socket);
Result<NetworkState> ReadNetwork(NetlinkSocket& socket);

// What is to be added and is there, or to be removed and is gone, is success.
Status ApplyChange(NetlinkSocket& socket, const NetworkChange& change);

}  // namespace bulkhead::agent
