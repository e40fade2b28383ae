// Connections to servers of the pod that listen on loopback, for the engine's port forwarding.
#pragma once

#include <cstdint>
#include <memory>

#include "agent/io_loop.h"
#include "agent/stdio.h"
#include "base/result.h"

namespace bulkhead::agent {

// To 127.0.0.1, or where nobody listens there to ::1. Its two directions are stdin and stdout. Does
// not wait: a connection that is still being made ends with its error later. kInvalidArgument: no
// TCP port; kUnavailable: refused.
Result<std::shared_ptr<Stdio>> ConnectLoopback(IoLoop& loop, uint32_t port);

}  // namespace bulkhead::agent
