#include "shim/network/name_question.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/sys.h"
#include "shim/network/enter_netns.h"

namespace bulkhead::shim {
namespace {

constexpr uint32_t kServer = 0x7f00000b;  // 127.0.0.11
constexpr uint16_t kPort = 53;
constexpr size_t kMaxMessage = 65535;
constexpr size_t kLengthBytes = 2;

std::string Prefixed(const std::string& message) {
  return std::string{static_cast<char>(message.size() >> 8U),
                     static_cast<char>(message.size() & 0xffU)} +
         message;
}

size_t LengthAt(const std::string& bytes) {
  return static_cast<size_t>(static_cast<uint8_t>(bytes[0])) << 8U | static_cast<uint8_t>(bytes[1]);
}

// The query as an answer: the server has failed.
std::string ServerFailure(std::string query) {
  constexpr uint8_t kResponse = 0x80;
  constexpr uint8_t kKept = 0x79;     // opcode, recursion desired
  constexpr uint8_t kKeptToo = 0x10;  // checking disabled
  constexpr uint8_t kServfail = 2;
  query[2] = static_cast<char>((static_cast<uint8_t>(query[2]) & kKept) | kResponse);
  query[3] = static_cast<char>((static_cast<uint8_t>(query[3]) & kKeptToo) | kServfail);
  return query;
}

Result<UniqueFd> Connect(bool tcp) {
  const int type = tcp ? SOCK_STREAM : SOCK_DGRAM;
  UniqueFd socket(::socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  TRY(sys::CheckCall(socket.get(), "socket"));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(kPort);
  address.sin_addr.s_addr = htonl(kServer);
  const Status connected = sys::CheckCall(
      ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)),
      "connect to 127.0.0.11");
  if (!connected && connected.error().errnum() != EINPROGRESS) {
    return tl::unexpected(connected.error());
  }
  return socket;
}

}  // namespace

Result<bool> HasNameServer(int netns) {
  const std::string sockets =
      TRY(InNetns(netns, [] { return sys::ReadFile("/proc/thread-self/net/udp"); }));
  return sockets.find(fmt::format(": {:08X}:", htonl(kServer))) != std::string::npos;
}

Result<NameQuestion> NameQuestion::Ask(int netns, bool tcp, std::string message,
                                       Clock::duration patience) {
  if (message.size() < kHeaderBytes || message.size() > kMaxMessage) {
    return MakeError(ErrorCode::kInvalidArgument, "a query of {} bytes", message.size());
  }
  auto socket = InNetns(netns, [tcp] { return Connect(tcp); });
  if (!socket && socket.error().errnum() == ECONNREFUSED) {
    NameQuestion refused({}, tcp, std::move(message), patience);
    refused.refused_ = true;
    return refused;
  }
  UniqueFd connected = TRY(std::move(socket));
  if (!tcp) {
    TRY(sys::CheckCall(::send(connected.get(), message.data(), message.size(), MSG_DONTWAIT),
                       "send to 127.0.0.11"));
  }
  return NameQuestion(std::move(connected), tcp, std::move(message), patience);
}

short NameQuestion::events() const {
  return tcp_ && sent_ < kLengthBytes + message_.size() ? POLLOUT : POLLIN;
}

std::optional<std::string> NameQuestion::Advance() {
  if (refused_) {
    return ServerFailure(message_);
  }
  return tcp_ ? AdvanceTcp() : AdvanceUdp();
}

std::optional<std::string> NameQuestion::Failure() const {
  switch (sys::LastErrno()) {
    case EAGAIN:
    case EINTR:
      return std::nullopt;
    case ECONNREFUSED:
      return ServerFailure(message_);
    default:
      return "";
  }
}

std::optional<std::string> NameQuestion::AdvanceUdp() {
  // Its size first: a buffer for the largest, for each that waits, would be much.
  const ssize_t size = ::recv(socket_.get(), nullptr, 0, MSG_DONTWAIT | MSG_PEEK | MSG_TRUNC);
  if (size < 0) {
    return Failure();
  }
  std::string answer(static_cast<size_t>(size), '\0');
  const ssize_t count = ::recv(socket_.get(), answer.data(), answer.size(), MSG_DONTWAIT);
  if (count < 0) {
    return Failure();
  }
  return answer.size() < kHeaderBytes ? "" : answer;
}

std::optional<std::string> NameQuestion::AdvanceTcp() {
  while (sent_ < kLengthBytes + message_.size()) {
    const std::string query = Prefixed(message_);
    const ssize_t count = ::send(socket_.get(), query.data() + sent_, query.size() - sent_,
                                 MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count < 0) {
      return Failure();
    }
    sent_ += static_cast<size_t>(count);
  }
  std::array<char, 4096> buffer{};
  for (;;) {
    const size_t wanted = kLengthBytes + (answer_.size() < kLengthBytes ? 0 : LengthAt(answer_));
    if (answer_.size() >= kLengthBytes && answer_.size() >= wanted) {
      return answer_.size() < kLengthBytes + kHeaderBytes ? "" : answer_.substr(kLengthBytes);
    }
    const ssize_t count = ::recv(socket_.get(), buffer.data(),
                                 std::min(buffer.size(), wanted - answer_.size()), MSG_DONTWAIT);
    if (count < 0) {
      return Failure();
    }
    if (count == 0) {
      return "";
    }
    answer_.append(buffer.data(), static_cast<size_t>(count));
  }
}

}  // namespace bulkhead::shim
