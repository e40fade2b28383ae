// TCP connections that somebody on the host makes to loopback in the pod's network namespace: so an
// engine forwards a port. That loopback is not the guest's, where the pod's servers listen. A BPF
// program (BPF_PROG_TYPE_SK_LOOKUP, Linux 5.9) hands connections to any port of it to one listener,
// whose connections know the port that was dialed; no rule of a firewall is touched. 127.0.0.11 is
// left alone: Docker's name server listens there.
#pragma once

#include <cstdint>
#include <optional>

#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead::shim {

class LoopbackListener {
 public:
  // The namespace is as before when the listener is destroyed, or its process ends. Errors: the
  // kernel has no such programs, or denies them.
  static Result<LoopbackListener> Open(int netns);

  // Readable when there may be a connection.
  int fd() const { return listener_.get(); }

  struct Connection {
    UniqueFd socket;  // non-blocking
    uint16_t port = 0;
  };
  // Does not wait. nullopt: there is none that was made to loopback.
  Result<std::optional<Connection>> Accept();

 private:
  LoopbackListener(UniqueFd listener, UniqueFd link)
      : listener_(std::move(listener)), link_(std::move(link)) {}

  UniqueFd listener_;
  UniqueFd link_;  // of the program to the namespace
};

}  // namespace bulkhead::shim
