#include "agent/loopback.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>

#include "base/sys.h"

namespace bulkhead::agent {
namespace {

// On loopback the answer is as good as there; a server whose queue is full gives none.
constexpr std::chrono::milliseconds kAnswerTime{10};

template <typename Address>
Result<UniqueFd> Connect(const Address& address, int family, uint32_t port) {
  UniqueFd socket(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  TRY(sys::CheckCall(socket.get(), "socket"));
  int error = 0;
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    error = errno;
  }
  if (error == EINPROGRESS) {
    error = 0;
    socklen_t size = sizeof(error);
    if (TRY(sys::PollOne(socket.get(), POLLOUT, kAnswerTime))) {
      TRY(sys::CheckCall(::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size),
                         "SO_ERROR"));
    }
  }
  if (error != 0) {
    return MakeErrno(error, "connect to port {}", port);
  }
  return socket;
}

Result<UniqueFd> ConnectEither(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto socket = Connect(address, AF_INET, port);
  if (socket) {
    return socket;
  }
  sockaddr_in6 address6{};
  address6.sin6_family = AF_INET6;
  address6.sin6_port = htons(port);
  address6.sin6_addr = in6addr_loopback;
  auto socket6 = Connect(address6, AF_INET6, port);
  return socket6 ? std::move(socket6) : std::move(socket);
}

}  // namespace

Result<std::shared_ptr<Stdio>> ConnectLoopback(IoLoop& loop, uint32_t port) {
  if (port == 0 || port > UINT16_MAX) {
    return MakeError(ErrorCode::kInvalidArgument, "port {}: not 1 to 65535", port);
  }
  UniqueFd socket = TRY(ConnectEither(static_cast<uint16_t>(port)));
  UniqueFd in = TRY(sys::Dup(socket.get()));
  return Stdio::Create(loop, {std::move(in), std::move(socket), {}}, false);
}

}  // namespace bulkhead::agent
