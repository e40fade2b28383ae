// The gRPC stream of a NameServer.
#pragma once

#include <agent.grpc.pb.h>

#include <memory>

#include "agent/name_server.h"
#include "base/result.h"

namespace bulkhead::agent {

// Owned by gRPC. Without a server it ends with the error.
grpc::ServerBidiReactor<::bulkhead::agent::v1::NameAnswer, ::bulkhead::agent::v1::NameQuery>*
NewNameStream(Result<std::shared_ptr<NameServer>> server);

}  // namespace bulkhead::agent
