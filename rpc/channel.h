// gRPC over a file descriptor that is already connected: gRPC 1.51 knows neither AF_VSOCK nor
// virtio-serial. Such a channel never reconnects; make a new one per connection.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/server.h>

#include <memory>

#include "base/unique_fd.h"

namespace bulkhead::rpc {

// The host's side. `fd` must be a stream socket.
std::shared_ptr<grpc::Channel> ChannelFromFd(UniqueFd fd);

// The agent's side: serves one connection.
void ServeFd(grpc::Server& server, UniqueFd fd);

}  // namespace bulkhead::rpc
