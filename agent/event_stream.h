// The gRPC stream of an EventFeed.
#pragma once

#include <agent.grpc.pb.h>

#include "agent/event_feed.h"

namespace bulkhead::agent {

// Owned by gRPC. Its initial metadata tells the host that events count from now on.
grpc::ServerWriteReactor<::bulkhead::agent::v1::Event>* NewEventStream(EventFeed& feed);

}  // namespace bulkhead::agent
