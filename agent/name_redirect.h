// What processes of the pod send to Docker's name server, 127.0.0.11:53, goes to the agent's own
// socket at another port of that address, and its answers come from port 53. BPF programs at the
// root of the control groups do it: port 53 stays free for a server that the pod has itself.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead::agent {

inline constexpr uint32_t kNameServerAddress = 0x7f00000b;  // 127.0.0.11
inline constexpr uint16_t kNameServerPort = 53;

class NameRedirect {
 public:
  // For processes below `cgroup` that are in the network namespace of the IPv4 socket `server`, to
  // whose port it leads; until it is destroyed. UDP and TCP, IPv4 and what IPv6 sockets say by
  // ::ffff:127.0.0.11.
  static Result<NameRedirect> Open(const std::string& cgroup, int server);

 private:
  explicit NameRedirect(std::vector<UniqueFd> links) : links_(std::move(links)) {}

  std::vector<UniqueFd> links_;  // of the programs to the cgroup
};

}  // namespace bulkhead::agent
