// The pod's network as `bulkhead inspect` shows it.
#pragma once

#include <vector>

#include "agent.pb.h"
#include "inspection.pb.h"
#include "shim/network/carried_interface.h"

namespace bulkhead::shim {

// `told`: what the guest was told last; `carried`: the NICs that it has for it.
inspection::v1::Network DescribeWiring(const agent::v1::Network& told,
                                       const std::vector<CarriedInterface>& carried);

}  // namespace bulkhead::shim
