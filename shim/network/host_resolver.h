// What the host's /etc/resolv.conf says.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace bulkhead::shim {

struct HostResolver {
  std::vector<std::string> servers;  // at most 3, as the C library has it; without a zone
  std::vector<std::string> search;
  std::string options;
};

// Those that a guest of a user-mode network reaches as the host does: by IPv4, and neither at the
// host's loopback nor in the guest's own small network.
std::vector<std::string> DirectServers(const HostResolver& resolver);

HostResolver ParseResolvConf(std::string_view text);
// Without a file or a server in it: the host itself is asked, as the C library does.
HostResolver ReadHostResolver();

}  // namespace bulkhead::shim
