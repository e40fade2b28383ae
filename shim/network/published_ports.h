// Ports of the host that lead to servers of a guest: `bulkhead run --publish`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace bulkhead::shim {

// As many in one container, ranges counted by their ports.
inline constexpr uint32_t kMaxPublishedPorts = 1024;

struct PublishedPorts {
  bool udp = false;
  std::string address;  // of the host, as inet_ntop has it; empty: all of them
  uint16_t host = 0;    // the first of `count`; 0: a free one is to be chosen
  uint16_t guest = 0;
  uint16_t count = 1;

  bool ipv6() const { return address.find(':') != std::string::npos; }
  bool operator==(const PublishedPorts&) const = default;
};

// "[IP:]HOSTPORT[-END]:PORT[-END][/tcp|/udp]", "[IP::]PORT[/tcp|/udp]"; IPv6 in brackets.
Result<PublishedPorts> ParsePublishedPorts(std::string_view text);
// Which ParsePublishedPorts() reads: "127.0.0.1:8080:80/tcp".
std::string ToText(const PublishedPorts& ports);
// That they are not too many.
Status CheckPublishedPorts(const std::vector<PublishedPorts>& ports);

// Chooses the host's ports that are to be chosen, and sees whether the others are free: an error
// names the one that is not, and why. They are free again when this returns.
Status ClaimPorts(std::vector<PublishedPorts>& ports);

}  // namespace bulkhead::shim
