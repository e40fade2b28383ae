// A small single-threaded process, forked before the agent has threads, that clones every process
// of a container: the child starts single-threaded and may run ordinary C++ until it execs. It is
// the agent's own child (CLONE_PARENT).
#pragma once

#include <sys/types.h>

#include "agent/launch.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead::agent {

class Zygote {
 public:
  // Forks. To be called before any thread exists.
  static Result<Zygote> Start();

  // From any thread. What becomes of it is told on the other end of `request.sync`.
  Status Launch(const LaunchRequest& request) const { return SendLaunch(socket_.get(), request); }
  pid_t pid() const { return pid_; }

 private:
  Zygote(pid_t pid, UniqueFd socket) : pid_(pid), socket_(std::move(socket)) {}

  pid_t pid_;
  UniqueFd socket_;  // the zygote ends when this is closed
};

}  // namespace bulkhead::agent
