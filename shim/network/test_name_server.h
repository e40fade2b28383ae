// A name server of a test's own at 127.0.0.11:53 in a network namespace; its answers are the
// test's.
#pragma once

#include <netinet/in.h>

#include <string>

#include "shim/network/test_netns.h"

namespace bulkhead::shim {

struct TestNameServer {
  static Result<UniqueFd> Bind(int type, uint32_t ip, uint16_t port) {
    UniqueFd socket(::socket(AF_INET, type | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(ip);
    TRY(sys::CheckCall(
        ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)),
        "bind"));
    return socket;
  }
  static Result<TestNameServer> Open(const TestNetns& netns) {
    return InNetns(netns.fd(), []() -> Result<TestNameServer> {
      TestNameServer server{TRY(Bind(SOCK_DGRAM, 0x7f00000b, 53)),
                            TRY(Bind(SOCK_STREAM, 0x7f00000b, 53))};
      TRY(sys::CheckCall(::listen(server.tcp.get(), 16), "listen"));
      return server;
    });
  }

  // The next query, and who sent it; empty when there is none soon.
  std::string Receive(sockaddr_in& from) const {
    std::string query(65536, '\0');
    socklen_t size = sizeof(from);
    if (!sys::PollOne(udp.get(), POLLIN, std::chrono::seconds(5)).value_or(false)) {
      return "";
    }
    const ssize_t count = ::recvfrom(udp.get(), query.data(), query.size(), 0,
                                     reinterpret_cast<sockaddr*>(&from), &size);
    query.resize(count < 0 ? 0 : static_cast<size_t>(count));
    return query;
  }
  void Send(const std::string& answer, const sockaddr_in& to) const {
    (void)::sendto(udp.get(), answer.data(), answer.size(), 0,
                   reinterpret_cast<const sockaddr*>(&to), sizeof(to));
  }
  UniqueFd Accept() const {
    const bool came = sys::PollOne(tcp.get(), POLLIN, std::chrono::seconds(5)).value_or(false);
    return UniqueFd(came ? ::accept4(tcp.get(), nullptr, nullptr, SOCK_CLOEXEC) : -1);
  }
  static std::string Prefixed(const std::string& message) {
    return std::string{static_cast<char>(message.size() >> 8U),
                       static_cast<char>(message.size() & 0xffU)} +
           message;
  }
  static std::string ReadAll(int fd, size_t size) {
    std::string bytes(size, '\0');
    const ssize_t count = ::recv(fd, bytes.data(), size, MSG_WAITALL);
    bytes.resize(count < 0 ? 0 : static_cast<size_t>(count));
    return bytes;
  }

  UniqueFd udp;
  UniqueFd tcp;
};

}  // namespace bulkhead::shim
