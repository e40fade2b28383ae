// A control group whose processes cannot reach servers at the host's loopback addresses: what
// carries a guest's traffic is in it. A guest may send frames to 127.0.0.1, and passt and libslirp
// take that for any other address.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead::shim {

class LoopbackFilter {
 public:
  struct Exceptions {
    std::vector<std::string> name_servers;  // addresses: of those at the loopback port 53 is open
    // A published UDP port: clients on the host get its answers, at ports of 32768 and above.
    bool udp_answers = false;
  };
  // A group below our own of cgroup v2, which need not be mounted anywhere.
  static Result<LoopbackFilter> Create(const Exceptions& exceptions);
  LoopbackFilter(LoopbackFilter&&) noexcept = default;
  LoopbackFilter& operator=(LoopbackFilter&&) = delete;
  // Removes the group once it is empty; waits a little for that.
  ~LoopbackFilter();

  // For a process to be started in it: a socket is held to the group that it was made in.
  int group() const { return group_.get(); }

 private:
  static Result<LoopbackFilter> MakeGroup(UniqueFd parent);
  LoopbackFilter(UniqueFd parent, std::string name, UniqueFd group)
      : parent_(std::move(parent)), name_(std::move(name)), group_(std::move(group)) {}

  UniqueFd parent_;
  std::string name_;
  UniqueFd group_;
};

}  // namespace bulkhead::shim
