// One Stdio call: carries chunks between gRPC and the Stdio of a process or a connection.
#pragma once

#include <agent.grpc.pb.h>

#include <functional>
#include <memory>

#include "agent/stdio.h"
#include "base/result.h"

namespace bulkhead::agent {

// By the host's first message.
using FindStdio =
    std::function<Result<std::shared_ptr<Stdio>>(const ::bulkhead::agent::v1::StdioInput&)>;

// Owns itself until the call is done.
grpc::ServerBidiReactor<::bulkhead::agent::v1::StdioInput, ::bulkhead::agent::v1::StdioOutput>*
NewStdioStream(FindStdio find);

}  // namespace bulkhead::agent
