// The command line that containerd gives a shim: Go's flags, then an action.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace bulkhead::shim {

enum class ShimAction {
  kServe,    // none: the daemon itself
  kStart,    // make a daemon, or find the pod's, and print its address
  kDelete,   // remove what is left of a container whose daemon is gone
  kVersion,  // -v
  kInfo,     // -info
};

struct ShimFlags {
  ShimAction action = ShimAction::kServe;
  std::string container_namespace;  // -namespace: containerd's, not the kernel's
  std::string id;                   // -id
  std::string address;              // -address: containerd's gRPC socket
  std::string publish_binary;  // -publish-binary: containerd itself; events go by ttrpc instead
  std::string bundle;          // -bundle: only with `delete`; else the working directory
  std::string socket;          // -socket, -debug-socket: of older daemons
  std::string debug_socket;
  bool debug = false;
};

// `arguments` follow the program's name. Checks that the namespace and the id, which become parts
// of paths, are there and can be that.
Result<ShimFlags> ParseShimFlags(const std::vector<std::string>& arguments);

}  // namespace bulkhead::shim
