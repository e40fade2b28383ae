// The agent's end of the wire to the host: one connection after the other, each as a stream socket.
#pragma once

#include <functional>
#include <string>

#include "agent/init.h"
#include "base/log.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead::agent {

// Takes over a connection; returns at once.
using Serve = std::function<void(UniqueFd)>;

// Runs for ever; returns only with an error (no such port).
Status RunChannel(const AgentOptions& options, const Serve& serve, Logger& log);

// Moves bytes between a virtio-serial port and socketpairs whose other ends are served: gRPC wants
// a socket, and one that ends when the host goes away. Exposed for the test.
Status PumpOnce(int port, int socket);

}  // namespace bulkhead::agent
