// What the ttrpc client and server share of a stream socket.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <string_view>

#include "base/result.h"
#include "rpc/ttrpc_frame.h"

namespace bulkhead::rpc {

// Sends all of `bytes`, without SIGPIPE; kDeadlineExceeded when the peer does not take them in
// time. `sent` counts those that left, also when it fails.
Status SendBytes(int socket, std::string_view bytes,
                 std::optional<std::chrono::steady_clock::time_point> deadline, size_t& sent);

// Reads frames and gives each to `on_frame`, until the end of file (which may be inside a frame)
// or an error: either way nothing more will come.
void ReadFrames(int socket, const std::function<void(TtrpcFrame frame)>& on_frame);

}  // namespace bulkhead::rpc
