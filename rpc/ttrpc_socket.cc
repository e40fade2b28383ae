#include "rpc/ttrpc_socket.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <span>
#include <utility>
#include <vector>

#include "base/sys.h"

namespace bulkhead::rpc {
namespace {

using std::chrono::milliseconds;

constexpr size_t kReadSize = 64U << 10U;
constexpr milliseconds kPoll = std::chrono::minutes(1);  // poll(2) cannot wait for years

}  // namespace

Status SendBytes(int socket, std::string_view bytes,
                 std::optional<std::chrono::steady_clock::time_point> deadline, size_t& sent) {
  sent = 0;
  while (sent < bytes.size()) {
    const ssize_t count =
        ::send(socket, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count >= 0) {
      sent += static_cast<size_t>(count);
      continue;
    }
    const int errnum = sys::LastErrno();
    if (errnum == EINTR) {
      continue;
    }
    if (errnum != EAGAIN && errnum != EWOULDBLOCK) {
      return MakeErrno(errnum, "send");
    }
    const auto now = std::chrono::steady_clock::now();
    if (deadline && now >= *deadline) {
      return MakeError(ErrorCode::kDeadlineExceeded, "send: the peer does not read");
    }
    const milliseconds left = deadline ? std::chrono::ceil<milliseconds>(*deadline - now) : kPoll;
    (void)TRY(sys::PollOne(socket, POLLOUT, std::min(left, kPoll)));
  }
  return {};
}

void ReadFrames(int socket, const std::function<void(TtrpcFrame frame)>& on_frame) {
  std::vector<char> buffer(kReadSize);
  TtrpcDecoder decoder;
  for (;;) {
    const auto count = sys::Read(socket, std::as_writable_bytes(std::span(buffer)));
    if (!count || *count == 0) {
      return;
    }
    std::string_view bytes(buffer.data(), *count);
    TtrpcFrame frame;
    while (decoder.Next(bytes, frame)) {
      on_frame(std::move(frame));
    }
  }
}

}  // namespace bulkhead::rpc
