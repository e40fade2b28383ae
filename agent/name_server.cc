#include "agent/name_server.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>
#include <vector>

#include "agent/name_redirect.h"
#include "base/sys.h"

namespace bulkhead::agent {
namespace {

constexpr int kUdpTag = 0;
constexpr int kListenerTag = 1;
constexpr int kFirstConnection = 2;
constexpr int kBacklog = 32;
constexpr int kPortTries = 16;
constexpr size_t kLengthBytes = 2;
constexpr size_t kHeaderBytes = 12;  // of DNS: less is no query
constexpr size_t kMaxMessage = 65535;
constexpr std::chrono::milliseconds kPause(200);  // after an accept that failed

Result<UniqueFd> Bind(int type, uint16_t port) {
  UniqueFd socket(::socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  TRY(sys::CheckCall(socket.get(), "socket"));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(kNameServerAddress);
  TRY(sys::CheckCall(
      ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)),
      "bind to 127.0.0.11:{}", port));
  return socket;
}

Result<uint16_t> PortOf(int socket) {
  sockaddr_in address{};
  socklen_t size = sizeof(address);
  TRY(sys::CheckCall(::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size),
                     "getsockname"));
  return ntohs(address.sin_port);
}

size_t LengthAt(const std::string& bytes) {
  return static_cast<size_t>(static_cast<uint8_t>(bytes[0])) << 8U | static_cast<uint8_t>(bytes[1]);
}

}  // namespace

Result<std::shared_ptr<NameServer>> NameServer::Create(IoLoop& loop) {
  UniqueFd udp;
  Result<UniqueFd> tcp;
  // A port that UDP has free may be taken for TCP.
  for (int tries = 0; tries < kPortTries; ++tries) {
    udp = TRY(Bind(SOCK_DGRAM, 0));
    tcp = Bind(SOCK_STREAM, TRY(PortOf(udp.get())));
    if (tcp || tcp.error().errnum() != EADDRINUSE) {
      break;
    }
  }
  UniqueFd listener = TRY(std::move(tcp));
  TRY(sys::CheckCall(::listen(listener.get(), kBacklog), "listen"));
  std::shared_ptr<NameServer> server(new NameServer(loop, std::move(udp), std::move(listener)));
  server->next_tag_ = kFirstConnection;
  server->udp_token_ = loop.Add(server->udp_.get(), server, kUdpTag);
  server->listener_token_ = loop.Add(server->listener_.get(), server, kListenerTag);
  loop.Arm(server->udp_token_, server->udp_.get(), EPOLLIN);
  loop.Arm(server->listener_token_, server->listener_.get(), EPOLLIN);
  return server;
}

NameServer::~NameServer() {
  Forget();
  loop_.Remove(udp_token_, udp_.get());
  loop_.Remove(listener_token_, listener_.get());
}

void NameServer::Attach(NameQuerySink* sink) {
  const std::scoped_lock lock(mutex_);
  NameQuerySink* before = std::exchange(sink_, sink);
  Forget();
  if (before != nullptr) {
    before->Replaced();
  }
  sending_ = true;
  sink->Send({});  // last: it may call back
}

void NameServer::Detach(NameQuerySink* sink) {
  const std::scoped_lock lock(mutex_);
  if (sink_ == sink) {
    sink_ = nullptr;
    Forget();
  }
}

void NameServer::Sent(NameQuerySink* sink) {
  const std::scoped_lock lock(mutex_);
  if (sink_ == sink) {
    sending_ = false;
    Pump();
  }
}

void NameServer::Answer(NameQuerySink* sink, uint64_t id, const std::string& message) {
  const std::scoped_lock lock(mutex_);
  const auto found = sink_ == sink ? waiting_.find(id) : waiting_.end();
  if (found == waiting_.end()) {
    return;
  }
  const bool was_full = Full();
  const Client client = found->second;
  waiting_.erase(found);
  if (client.connection == 0) {
    if (!message.empty()) {
      (void)::sendto(udp_.get(), message.data(), message.size(), MSG_DONTWAIT,
                     reinterpret_cast<const sockaddr*>(&client.address), sizeof(client.address));
    }
  } else if (const auto asked = connections_.find(client.connection); asked != connections_.end()) {
    asked->second.waits = false;
    if (!message.empty() && message.size() <= kMaxMessage) {
      asked->second.out = {static_cast<char>(message.size() >> 8U),
                           static_cast<char>(message.size() & 0xffU)};
      asked->second.out += message;
    }
    if (!Advance(asked->second, client.connection)) {
      Close(client.connection);
    }
  }
  if (was_full) {
    // Whoever found no place tries again.
    loop_.Arm(udp_token_, udp_.get(), EPOLLIN);
    for (auto& [tag, connection] : connections_) {
      loop_.Arm(connection.token, connection.socket.get(), EPOLLOUT);
    }
  }
}

void NameServer::OnReady(int tag, uint32_t events) {
  const std::scoped_lock lock(mutex_);
  if (tag == kUdpTag) {
    return ReadUdp();
  }
  if (tag == kListenerTag) {
    return Accept();
  }
  const auto found = connections_.find(tag);
  if (found == connections_.end()) {
    return;
  }
  found->second.used = ++events_;
  if ((events & (EPOLLERR | EPOLLHUP)) != 0 || !Advance(found->second, tag)) {
    Close(tag);
  }
}

void NameServer::ReadUdp() {
  std::array<char, kMaxUdpQuery> buffer{};
  for (size_t count = 0; count < kMaxQueries && !Full(); ++count) {
    Client client;
    socklen_t size = sizeof(client.address);
    const ssize_t length = ::recvfrom(udp_.get(), buffer.data(), buffer.size(), MSG_TRUNC,
                                      reinterpret_cast<sockaddr*>(&client.address), &size);
    if (length < 0) {
      break;
    }
    const auto bytes = static_cast<size_t>(length);
    if (sink_ != nullptr && bytes >= kHeaderBytes && bytes <= buffer.size()) {
      Enqueue(false, std::string(buffer.data(), bytes), client);
    }
  }
  if (!Full()) {
    loop_.Arm(udp_token_, udp_.get(), EPOLLIN);
  }
}

void NameServer::Accept() {
  UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!socket && errno != EAGAIN && errno != ECONNABORTED && errno != EINTR) {
    return loop_.ArmLater(listener_token_, listener_.get(), EPOLLIN, kPause);
  }
  if (socket && sink_ != nullptr) {
    MakeRoom();
    const int tag = next_tag_++;
    Connection& connection = connections_[tag];
    connection.socket = std::move(socket);
    connection.used = ++events_;
    connection.token = loop_.Add(connection.socket.get(), weak_from_this(), tag);
    loop_.Arm(connection.token, connection.socket.get(), EPOLLIN);
  }
  loop_.Arm(listener_token_, listener_.get(), EPOLLIN);
}

void NameServer::MakeRoom() {
  if (connections_.size() >= kMaxConnections) {
    Close(
        std::min_element(connections_.begin(), connections_.end(),
                         [](const auto& a, const auto& b) { return a.second.used < b.second.used; })
            ->first);
  }
}

bool NameServer::Advance(Connection& connection, int tag) {
  const int fd = connection.socket.get();
  while (!connection.out.empty()) {
    const ssize_t count =
        ::send(fd, connection.out.data(), connection.out.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count < 0 && errno == EAGAIN) {
      loop_.Arm(connection.token, fd, EPOLLOUT);
      return true;
    }
    if (count < 0) {
      return false;
    }
    connection.out.erase(0, static_cast<size_t>(count));
  }
  if (!connection.waits && !Receive(connection)) {
    return false;
  }
  std::string& in = connection.in;
  const size_t length = in.size() < kLengthBytes ? kMaxMessage : LengthAt(in);
  const bool complete = in.size() >= kLengthBytes + length;
  if (length < kHeaderBytes) {
    return false;
  }
  const bool taken = complete && !connection.waits && !Full();
  connection.waits = connection.waits || taken;
  // While it waits, or for a place, only its end is of interest.
  loop_.Arm(connection.token, fd, connection.waits || complete ? 0U : uint32_t{EPOLLIN});
  if (taken) {
    std::string message = in.substr(kLengthBytes, length);
    in.erase(0, kLengthBytes + length);
    Enqueue(true, std::move(message), {tag, {}});  // last: it may end the connection
  }
  return true;
}

// No more than one query. False: the client's end, or an error.
bool NameServer::Receive(Connection& connection) {
  std::string& in = connection.in;
  for (;;) {
    const size_t wanted = in.size() < kLengthBytes ? kLengthBytes : kLengthBytes + LengthAt(in);
    if (in.size() >= wanted) {
      return true;
    }
    std::array<char, 4096> buffer{};
    const ssize_t count = ::recv(connection.socket.get(), buffer.data(),
                                 std::min(buffer.size(), wanted - in.size()), MSG_DONTWAIT);
    if (count <= 0) {
      return count < 0 && (errno == EAGAIN || errno == EINTR);
    }
    in.append(buffer.data(), static_cast<size_t>(count));
  }
}

void NameServer::Enqueue(bool tcp, std::string message, const Client& client) {
  const uint64_t id = next_id_++;
  waiting_.emplace(id, client);
  pending_.push_back({id, tcp, std::move(message)});
  Pump();
}

void NameServer::Pump() {
  if (sink_ == nullptr || sending_ || pending_.empty()) {
    return;
  }
  NameQuery query = std::move(pending_.front());
  pending_.pop_front();
  sending_ = true;
  sink_->Send(std::move(query));  // last: it may call back
}

void NameServer::Close(int tag) {
  const auto connection = connections_.find(tag);
  if (connection != connections_.end()) {
    loop_.Remove(connection->second.token, connection->second.socket.get());
    connections_.erase(connection);
  }
}

void NameServer::Forget() {
  pending_.clear();
  waiting_.clear();
  while (!connections_.empty()) {
    Close(connections_.begin()->first);
  }
  loop_.Arm(udp_token_, udp_.get(), EPOLLIN);
}

}  // namespace bulkhead::agent
