// Whether a description of the network can be right: the kernel is asked nothing.
#pragma once

#include "agent/network_types.h"
#include "base/result.h"

namespace bulkhead::agent {

// What is malformed or absurd is refused with the entry's name ("routes[3]: gateway: 5 bytes").
// What the kernel spells in another way is given its spelling; its own three rules are left out.
Result<Network> CheckNetwork(Network network);

}  // namespace bulkhead::agent
