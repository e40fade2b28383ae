#include "shim/network/published_ports.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include <array>
#include <charconv>
#include <optional>

#include "base/sys.h"
#include "base/unique_fd.h"

namespace bulkhead::shim {
namespace {

constexpr char kForm[] = "[IP:]HOSTPORT[-END]:PORT[-END][/tcp|/udp]";

struct Range {
  uint16_t first = 0;
  uint16_t count = 1;
};

Result<uint16_t> ParsePort(std::string_view text) {
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size() || port == 0) {
    return MakeError(ErrorCode::kInvalidArgument, "\"{}\" is not a port from 1 to 65535", text);
  }
  return port;
}

Result<Range> ParseRange(std::string_view text) {
  const size_t dash = text.find('-');
  const uint16_t first = TRY(ParsePort(text.substr(0, dash)));
  const uint16_t last =
      dash == std::string_view::npos ? first : TRY(ParsePort(text.substr(dash + 1)));
  if (last < first) {
    return MakeError(ErrorCode::kInvalidArgument, "{} ends before it begins", text);
  }
  return Range{first, static_cast<uint16_t>(last - first + 1)};
}

Result<std::string> ParseAddress(std::string_view text, int family) {
  const std::string copy(text);
  in6_addr address{};
  if (::inet_pton(family, copy.c_str(), &address) != 1) {
    return MakeError(ErrorCode::kInvalidArgument, "\"{}\" is not an {} address", text,
                     family == AF_INET ? "IPv4" : "IPv6");
  }
  std::array<char, INET6_ADDRSTRLEN> canonical{};
  ::inet_ntop(family, &address, canonical.data(), canonical.size());
  return std::string(canonical.data());
}

// Takes "/udp" off the end.
Result<bool> TakeProtocol(std::string_view& text) {
  const size_t slash = text.find('/');
  const std::string_view protocol =
      slash == std::string_view::npos ? "tcp" : text.substr(slash + 1);
  if (protocol != "tcp" && protocol != "udp") {
    return MakeError(ErrorCode::kInvalidArgument, "\"{}\" is not tcp or udp", protocol);
  }
  text = text.substr(0, slash);
  return protocol == "udp";
}

// Takes "IP:" off the front. nullopt: there is none.
Result<std::optional<std::string>> TakeAddress(std::string_view& text) {
  if (text.starts_with('[')) {
    const size_t end = text.find("]:");
    if (end == std::string_view::npos) {
      return MakeError(ErrorCode::kInvalidArgument, "no \"]:\" after the address");
    }
    std::string address = TRY(ParseAddress(text.substr(1, end - 1), AF_INET6));
    text.remove_prefix(end + 2);
    return address;
  }
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos || text.find(':', colon + 1) == std::string_view::npos) {
    return std::nullopt;
  }
  std::string address = TRY(ParseAddress(text.substr(0, colon), AF_INET));
  text.remove_prefix(colon + 1);
  return address;
}

Result<PublishedPorts> Parse(std::string_view text) {
  PublishedPorts ports;
  ports.udp = TRY(TakeProtocol(text));
  const std::optional<std::string> address = TRY(TakeAddress(text));
  ports.address = address.value_or("");
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos && address) {
    return MakeError(ErrorCode::kInvalidArgument, "there is no port of the container");
  }
  const Range guest =
      TRY(ParseRange(colon == std::string_view::npos ? text : text.substr(colon + 1)));
  ports.guest = guest.first;
  ports.count = guest.count;
  if (colon != std::string_view::npos && colon != 0) {
    const Range host = TRY(ParseRange(text.substr(0, colon)));
    if (host.count != guest.count) {
      return MakeError(ErrorCode::kInvalidArgument, "{} ports of the host for {} of the container",
                       host.count, guest.count);
    }
    ports.host = host.first;
  } else if (guest.count > 1) {
    return MakeError(ErrorCode::kInvalidArgument, "for a range the host's ports must be named");
  }
  return ports;
}

// A socket that has one of the ports. 0: a free one.
Result<UniqueFd> Hold(const PublishedPorts& ports, uint16_t port) {
  sockaddr_storage address{};
  socklen_t size = sizeof(sockaddr_in);
  const int family = ports.ipv6() ? AF_INET6 : AF_INET;
  address.ss_family = static_cast<sa_family_t>(family);
  if (ports.ipv6()) {
    auto& ip6 = reinterpret_cast<sockaddr_in6&>(address);
    size = sizeof(ip6);
    ip6.sin6_port = htons(port);
    ::inet_pton(AF_INET6, ports.address.c_str(), &ip6.sin6_addr);
  } else {
    auto& ip4 = reinterpret_cast<sockaddr_in&>(address);
    ip4.sin_port = htons(port);
    ::inet_pton(AF_INET, ports.address.empty() ? "0.0.0.0" : ports.address.c_str(), &ip4.sin_addr);
  }
  UniqueFd socket(::socket(family, (ports.udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0));
  TRY(sys::CheckCall(socket.get(), "socket"));
  const auto check = [](long result) { return sys::CheckCall(result, "it cannot be taken"); };
  const int on = 1;
  if (!ports.udp) {
    // What a server that ended left in TIME_WAIT is in nobody's way.
    TRY(check(::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on))));
  }
  TRY(check(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), size)));
  if (!ports.udp) {
    TRY(check(::listen(socket.get(), 1)));
  }
  return socket;
}

Result<uint16_t> PortOf(const UniqueFd& socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  TRY(sys::CheckCall(::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size),
                     "getsockname"));
  // At the same place in both families.
  return ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

}  // namespace

Result<PublishedPorts> ParsePublishedPorts(std::string_view text) {
  return TRY_AS(Parse(text), "\"{}\" is not {}", text, kForm);
}

std::string ToText(const PublishedPorts& ports) {
  const auto range = [&](uint16_t first) {
    return ports.count == 1 ? std::to_string(first)
                            : fmt::format("{}-{}", first, first + ports.count - 1);
  };
  const std::string address = ports.address.empty() ? ""
                              : ports.ipv6()        ? fmt::format("[{}]:", ports.address)
                                                    : ports.address + ":";
  return fmt::format("{}{}:{}/{}", address, ports.host == 0 ? "" : range(ports.host),
                     range(ports.guest), ports.udp ? "udp" : "tcp");
}

Status CheckPublishedPorts(const std::vector<PublishedPorts>& ports) {
  uint32_t count = 0;
  for (const PublishedPorts& each : ports) {
    count += each.count;
  }
  if (count > kMaxPublishedPorts) {
    return MakeError(ErrorCode::kInvalidArgument, "{} ports are published: at most {}", count,
                     kMaxPublishedPorts);
  }
  return {};
}

Status ClaimPorts(std::vector<PublishedPorts>& ports) {
  std::vector<UniqueFd> held;  // until all are, for two may be the same
  for (PublishedPorts& each : ports) {
    for (uint32_t i = 0; i < each.count; ++i) {
      const auto port = static_cast<uint16_t>(each.host == 0 ? 0 : each.host + i);
      held.push_back(TRY_AS(Hold(each, port), "port {}{}{}/{} of the host", each.address,
                            each.address.empty() ? "" : " ", port, each.udp ? "udp" : "tcp"));
    }
    if (each.host == 0) {
      each.host = TRY(PortOf(held.back()));
    }
  }
  return {};
}

}  // namespace bulkhead::shim
