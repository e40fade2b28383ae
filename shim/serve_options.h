// The command line of the daemon's `serve`, which the `bulkhead` command starts.
#pragma once

#include <string>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "shim/network/published_ports.h"

namespace bulkhead::shim {

struct ServeOptions {
  std::string id;
  std::string pod_dir;   // private to the pod; removed at the end with auto_remove
  std::string data_dir;  // the writable layer; always removed at the end
  std::string config;    // a file; empty: LoadConfig's own search
  // Only when it serves an engine:
  std::string engine_namespace;
  std::string ttrpc_address;  // of the engine, for events; empty: nobody is told
  std::string socket;         // the path of socket_fd, removed at the end

  std::string accel;  // overrides the configuration's
  // "user": a user-mode network; "auto": one if the host's loopback can be kept from it; empty:
  // what an engine makes, or none.
  std::string network;
  std::vector<PublishedPorts> publish;  // with it
  int socket_fd = -1;                   // listening
  int lock_fd = -1;                     // held, and with it the pod's lock, until the end
  int fds_socket_fd =
      -1;  // listening: there clients hand open files over; they are OCI command lines
  // At its end of file the pod is ended, unless a byte came first. -1: it lives as long as its
  // process.
  int lifeline_fd = -1;
  bool auto_remove = false;
  bool debug = false;
  LogFormat log_format = LogFormat::kText;
};

// `arguments` follow the word "serve": "--name value" or "--name=value".
Result<ServeOptions> ParseServeOptions(const std::vector<std::string>& arguments);

}  // namespace bulkhead::shim
