// Where a pod that serves an engine has its things on the host, so that `start`, the daemon and
// `delete` find the same: a folder below the state directory, and the socket.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "shim/config.h"

namespace bulkhead::shim {

// In clock ticks since boot: with the pid, the name of a process.
Result<std::string> ProcessStartTime(pid_t pid);
Result<pid_t> ParentOf(pid_t pid);

struct EnginePod {
  // `pod_id`: the CRI sandbox's, or that of a container that is a pod by itself. `socket_dir` may
  // be empty: containerd's.
  EnginePod(const Config& config, const std::string& engine_address,
            const std::string& engine_namespace, const std::string& pod_id,
            const std::string& socket_dir);

  // With all its things in the folder.
  static EnginePod InFolder(std::string folder);
  // What RecordIn left in the bundle of any of the pod's containers; kNotFound: nothing.
  static Result<EnginePod> OfBundle(const std::string& bundle);
  Status RecordIn(const std::string& bundle) const;
  // Those of engines that speak to the shim, whose daemon has been recorded.
  static std::vector<EnginePod> OfShims(const Config& config);
  // The pod of this engine's namespace that the process is the daemon of, if it is one's.
  static std::optional<EnginePod> OfDaemon(const Config& config, const std::string& engine_address,
                                           const std::string& engine_namespace, pid_t daemon);

  std::string folder;
  std::string socket;
  std::string fds_socket() const { return folder + "/fds.sock"; }  // of a pod in a folder
  std::string lock() const { return folder + "/lock"; }
  std::string address() const { return "unix://" + socket; }

  // The daemon holds the lock for as long as it lives. kUnavailable when it is still held after
  // `patience`; kNotFound without a folder.
  Result<UniqueFd> Lock(std::chrono::milliseconds patience) const;
  // In the lock file: which process the daemon is, its socket and its engine.
  Status RecordDaemon(pid_t pid) const;
  // Ends the recorded daemon, if it is still that process.
  Status KillDaemon() const;
  // What a dead daemon left. Its mounts went with its mount namespace.
  Status Remove() const;

 private:
  EnginePod() = default;

  std::string engine_;  // a digest of its address and namespace; empty: of a pod in a folder
};

}  // namespace bulkhead::shim
