// A control group whose processes cannot reach servers at the host's loopback addresses: what
// carries a guest's traffic is in it. A guest may send frames to 127.0.0.1, and passt and libslirp
// take that for any other address.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "shim/network/filter_group.h"

namespace bulkhead::shim {

class LoopbackFilter {
 public:
  struct Exceptions {
    std::vector<std::string> name_servers;  // addresses: of those at the loopback port 53 is open
    // A published UDP port: clients on the host get its answers, at ports of 32768 and above.
    bool udp_answers = false;
  };
  static Result<LoopbackFilter> Create(const Exceptions& exceptions);

  // For a process to be started in it: a socket is held to the group that it was made in.
  int group() const { return group_.fd(); }
  const std::string& path() const { return group_.path(); }

 private:
  explicit LoopbackFilter(FilterGroup group) : group_(std::move(group)) {}

  FilterGroup group_;
};

}  // namespace bulkhead::shim
