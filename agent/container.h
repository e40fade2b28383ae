// A container: its cgroup, its init and the processes exec'ed into it. Each is an actor with a
// lock of its own, never held while blocking: a slow create or delete holds up nobody else.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "agent/cgroups.h"
#include "agent/io_loop.h"
#include "agent/process.h"
#include "agent/reaper.h"
#include "agent/seccomp.h"
#include "agent/zygote.h"
#include "base/result.h"
#include "oci/spec.h"

namespace bulkhead::agent {

// What every container works with. Outlives them all.
struct Workshop {
  const Zygote& zygote;
  Reaper& reaper;
  IoLoop& io;
  std::string cgroup_root;    // "/sys/fs/cgroup"
  bool device_filter = true;  // false only in tests on a host that has none
};

class Container {
 public:
  // All of OCI create. What it made is gone again when it fails.
  static Result<std::shared_ptr<Container>> Create(const Workshop& workshop, const std::string& id,
                                                   oci::Spec spec, bool with_stdin);
  ~Container();

  Result<std::shared_ptr<Process>> Exec(const std::string& exec_id, oci::Process process,
                                        bool with_stdin);
  // Empty exec id: init.
  Result<std::shared_ptr<Process>> Find(const std::string& exec_id) const;
  Status SignalAll(int signal) const;
  // Forgets an exec'ed process that has ended.
  Status DeleteExec(const std::string& exec_id);
  // Init has ended: kills the rest and removes the cgroup.
  Status Delete();
  Result<std::vector<pid_t>> Pids() const { return cgroup_->Processes(); }
  // Exec id of a pid, when it is one of those.
  std::string ExecIdOf(pid_t pid) const;

 private:
  Container(const Workshop& workshop, std::string id) : workshop_(workshop), id_(std::move(id)) {}

  Status PrepareLaunch(LaunchRequest& request, bool with_stdin, Stdio::Fds& ours) const;
  Status AddSeccomp(LaunchRequest& request) const;
  Status Launch(LaunchRequest& request, const std::shared_ptr<Process>& process, bool with_stdin);
  Status Follow(int sync, const std::shared_ptr<Process>& process, Stdio::Fds& ours,
                std::optional<Reaper::Launch>& launch);

  const Workshop& workshop_;
  const std::string id_;
  std::shared_ptr<Cgroup> cgroup_;  // shared with exit callbacks
  oci::Spec spec_;
  std::optional<SeccompProgram> seccomp_;
  std::shared_ptr<Process> init_;
  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Process>> execs_;
};

// All containers by id. The lock is held for look-ups only.
class Containers {
 public:
  explicit Containers(Workshop workshop) : workshop_(std::move(workshop)) {}

  Result<std::shared_ptr<Process>> Create(const std::string& id, oci::Spec spec, bool with_stdin);
  Result<std::shared_ptr<Container>> Find(const std::string& id) const;
  Status Delete(const std::string& id);
  void KillAll();

 private:
  const Workshop workshop_;
  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Container>> containers_;  // null: being created
};

// [A-Za-z0-9][A-Za-z0-9_.+-]*, at most 200.
Status CheckContainerId(const std::string& id);

}  // namespace bulkhead::agent
