// The network that the kernel has: reads it, and carries out one change of it.
#pragma once

#include "agent/network_types.h"
#include "base/netlink.h"
#include "base/result.h"

namespace bulkhead::agent {

Result<std::vector<Link>> ReadLinks(Netlink& socket);
Result<NetworkState> ReadNetwork(Netlink& socket);

// What is to be added and is there, or to be removed and is gone, is success.
Status ApplyChange(Netlink& socket, const NetworkChange& change);

}  // namespace bulkhead::agent
