// What travels between the agent, the zygote and a process that is being made.
//
//   agent --LaunchRequest--> zygote --clone3--> child
//   child --LaunchReport---> agent        (kBorn is sent by whoever cloned it)
//   agent --"go"-----------> child        (StartProcess)
//   child: execve closes the socket; or LaunchReport::kFailed
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "oci/spec.h"

namespace bulkhead::agent {

enum class LaunchKind : uint8_t {
  kInit,     // of a new container
  kExec,     // into a running container: of the spec, `process` is used, and the mappings
  kPodInit,  // of the pod's own pid namespace: runs no command and reaps orphans
};

struct LaunchRequest {
  LaunchKind kind = LaunchKind::kInit;
  uint64_t clone_flags = 0;  // CLONE_NEW* for the process
  bool new_cgroup = false;   // unshare a cgroup namespace
  bool owns_uts = false;     // may set host name and sysctls of its namespaces
  unsigned seccomp_flags = 0;
  oci::Spec spec;
  std::vector<int> join_types;  // CLONE_NEW* of each of `join`

  UniqueFd sync;      // SEQPACKET
  UniqueFd cgroup;    // clone into it
  UniqueFd stdin_fd;  // the child's ends; all three invalid: a terminal
  UniqueFd stdout_fd;
  UniqueFd stderr_fd;
  UniqueFd seccomp;            // memfd with the program
  std::vector<UniqueFd> join;  // namespaces, or one pidfd

  // Nothing where it is invalid. After all others: who is in it may join nothing of the guest's.
  Status JoinUserNamespace(const UniqueFd& user);
  // Also when it has been joined; spec.linux_ has the mappings then.
  bool has_user_namespace() const;
};

Status SendLaunch(int zygote, const LaunchRequest& request);
// nullopt: the agent is gone.
Result<std::optional<LaunchRequest>> ReceiveLaunch(int socket);

struct LaunchReport {
  enum class Kind : char { kBorn = 'B', kTerminal = 'T', kReady = 'R', kFailed = 'F' };
  Kind kind = Kind::kReady;
  pid_t pid = 0;               // kBorn, in the guest's pid namespace
  std::vector<UniqueFd> fds;   // kBorn: pidfd; kTerminal: the master
  std::optional<Error> error;  // kFailed
};

Status ReportBorn(int sync, pid_t pid, int pidfd);
Status ReportTerminal(int sync, int master);
Status ReportReady(int sync);
Status ReportFailed(int sync, const Error& error);
// nullopt: the other end is closed (it runs its command, or it has ended).
Result<std::optional<LaunchReport>> ReceiveReport(int sync);

}  // namespace bulkhead::agent
