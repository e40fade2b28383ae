// Network of agent.proto as values.
#pragma once

#include <agent.pb.h>

#include "agent/network_types.h"

namespace bulkhead::agent {

Network FromWire(const v1::Network& network);

}  // namespace bulkhead::agent
