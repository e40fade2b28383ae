// Where a client wants a process's stdio, as containerd names it:
//   ""                            none
//   PATH, fifo://PATH             a fifo
//   file://PATH                   a file, appended to
//   binary://PATH?NAME=VALUE&...  a logging program: reads fds 3 (stdout) and 4 (stderr), closes 5
//                                 when it is ready; its arguments are NAME VALUE ...
//   fd://TOKEN/NAME               an open file that the client handed over before (FdStore)
#pragma once

#include <optional>
#include <string>

#include "base/child.h"
#include "base/result.h"
#include "base/spawn_thread.h"
#include "base/unique_fd.h"

namespace bulkhead::shim {

class FdStore;

// With a terminal there is no stderr. Only stdout and stderr may be a file or a logging program.
struct StdioPaths {
  std::string in;
  std::string out;
  std::string err;
};

struct StdioPolicy {
  // A fifo whose reader goes away waits for the next one (an engine that restarts), and its writers
  // with it. Without: they get EPIPE.
  bool wait_for_reader = false;
  // For logging programs, as CONTAINER_NAMESPACE and CONTAINER_ID.
  std::string engine_namespace;
  std::string container_id;
  SpawnThread* spawner = nullptr;  // null: no logging programs
  FdStore* fds = nullptr;          // null: none can be handed over
};

// A running logging program. Ends by itself when its pipes close; the destructor gives it time.
class StdioLogger {
 public:
  explicit StdioLogger(Child child) : child_(std::move(child)) {}
  StdioLogger(StdioLogger&&) = default;
  StdioLogger& operator=(StdioLogger&&) = default;
  ~StdioLogger();

 private:
  Child child_;
};

// All fds are non-blocking, or never block.
struct StdioTargets {
  UniqueFd in;
  UniqueFd out;
  UniqueFd err;
  std::optional<StdioLogger> logger;
};

Result<StdioTargets> OpenStdioTargets(const StdioPaths& paths, const StdioPolicy& policy);

struct StdioUri {
  std::string scheme;  // fifo, file, binary, fd
  std::string path;
  std::vector<std::string> arguments;
};
// Errors name what is wrong with the text.
Result<StdioUri> ParseStdioUri(const std::string& text);

}  // namespace bulkhead::shim
