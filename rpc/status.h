// Errors on the wire between host and agent: the one place where Error becomes a gRPC status and
// back. The status's details carry Bulkhead's own code by name, since gRPC's are fewer.
#pragma once

#include <grpcpp/support/status.h>

#include "base/result.h"

namespace bulkhead::rpc {

grpc::Status ToGrpc(const Error& error);
grpc::Status ToGrpc(const Status& status);

// `status` must not be OK. The peer is not trusted: the message is cut at 4 KiB and made printable.
Error FromGrpc(const grpc::Status& status);

}  // namespace bulkhead::rpc
