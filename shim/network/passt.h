// passt, which carries a guest's traffic over ordinary sockets of the host: a child with a socket
// for the guest's frames. It needs no rights and takes all that it has away from itself; it ends
// when the other end of the socket closes.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "base/child.h"
#include "base/last_words.h"
#include "base/result.h"
#include "base/spawn_thread.h"
#include "shim/network/host_resolver.h"
#include "shim/network/published_ports.h"

namespace bulkhead::shim {

struct PasstOptions {
  std::string program;
  std::vector<PublishedPorts> ports;
  HostResolver resolver;  // whom it asks for the guest
  // The guest's gateway stands for the host's loopback. Else clients of the host's loopback get no
  // answer from a published UDP port.
  bool maps_gateway = false;
  int cgroup = -1;  // a group of cgroup v2 to begin in
};

class Passt {
 public:
  static Result<Passt> Start(const PasstOptions& options, SpawnThread& spawner);

  // What it can do: that depends on the host's routes.
  struct Families {
    bool ip4 = false;
    bool ip6 = false;
  };
  // Waits until it answers the guest's first frames. Else the error holds its own words.
  Result<Families> Greet(std::chrono::milliseconds patience);
  // The guest's end, once it has answered.
  UniqueFd TakeSocket() { return std::move(socket_); }

  Child& child() { return child_; }
  LastWords& words() { return words_; }

 private:
  Passt(Child child, UniqueFd socket, UniqueFd errors)
      : child_(std::move(child)), socket_(std::move(socket)), words_(std::move(errors)) {}

  Result<Families> Ask(std::chrono::steady_clock::time_point deadline);
  Status Send(const std::string& frame);
  Result<std::string> Receive(std::chrono::steady_clock::time_point deadline);

  Child child_;
  UniqueFd socket_;
  LastWords words_;
};

std::vector<std::string> PasstArguments(const PasstOptions& options, int socket);

}  // namespace bulkhead::shim
