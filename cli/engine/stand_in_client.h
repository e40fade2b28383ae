// A process of a container from its making on: its stand-in on the host, and the open files that
// the pod's daemon is given for it.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "base/child.h"
#include "base/result.h"
#include "cli/daemon.h"
#include "cli/engine/cgroup.h"
#include "cli/engine/console.h"
#include "shim/engine_pod.h"
#include "shim/stand_in.h"

namespace bulkhead::cli {

struct ProcessFiles {
  std::string console_socket;                      // where the terminal goes; empty: it is our own
  std::array<bool, 3> was_open{true, true, true};  // of fds 0 to 2
};

class HostProcess {
 public:
  // In the group and network namespace named. Dies with this object until it is let go. `bundle`:
  // of a container, whose files it shows; empty: it shows none.
  static Result<HostProcess> Start(const shim::NetworkNamespace& network, const HostCgroup& cgroup,
                                   const oci::Process& guest, const std::string& bundle,
                                   const ProcessFiles& files);

  pid_t pid() const { return child_.pid(); }
  // The daemon has them afterwards, and the engine its console.
  Status HandOver(const shim::EnginePod& pod, const std::string& console_socket);
  const StdioPaths& stdio() const { return stdio_; }
  const StandInRef& ref() const { return ref_; }
  void LetGo() { child_.Detach(); }
  // Its end; signals that reach us go to it.
  Result<int> Wait();

 private:
  explicit HostProcess(Child child) : child_(std::move(child)) {}

  Child child_;
  UniqueFd channel_;  // the daemon's end
  std::optional<Pty> pty_;
  std::array<bool, 3> passed_{};
  bool terminal_ = false;
  StandInRef ref_;
  StdioPaths stdio_;
};

Status WritePidFile(const std::string& path, pid_t pid);

}  // namespace bulkhead::cli
