// A container: its cgroup, its init and the processes exec'ed into it. Each is an actor with a
// lock of its own, never held while blocking: a slow create or delete holds up nobody else.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <vector>

#include "agent/cgroup_stats.h"
#include "agent/cgroups.h"
#include "agent/drives.h"
#include "agent/huge_pages.h"
#include "agent/io_loop.h"
#include "agent/namespaces.h"
#include "agent/oom_watch.h"
#include "agent/pod_pid_namespace.h"
#include "agent/pod_user_namespaces.h"
#include "agent/process.h"
#include "agent/reaper.h"
#include "agent/seccomp.h"
#include "agent/shared_folders.h"
#include "agent/writable_layer.h"
#include "agent/zygote.h"
#include "base/result.h"
#include "oci/spec.h"

namespace bulkhead::agent {

// What every container works with. Outlives them all.
struct Workshop {
  const Zygote& zygote;
  Reaper& reaper;
  IoLoop& io;
  OomWatch& oom;
  PodPidNamespace& pod_pid;
  PodUserNamespaces& pod_users;
  SharedFolders& folders;
  HugePages& huge_pages;
  std::string cgroup_root;    // "/sys/fs/cgroup"
  bool device_filter = true;  // false only in tests on a host that has none
};

// What CreateContainer asks for.
struct ContainerRequest {
  std::string id;
  oci::Spec spec;
  bool with_stdin = false;
  std::vector<Drive> drives;
  std::optional<UpperRequest> upper;
  std::string bundle;  // on the host
};

class Container {
 public:
  // Another container.
  using Finder = std::function<Result<std::shared_ptr<Container>>(const std::string& id)>;

  // All of OCI create. What it made is gone again when it fails.
  static Result<std::shared_ptr<Container>> Create(const Workshop& workshop,
                                                   ContainerRequest request, const Finder& find);
  ~Container();

  Result<std::shared_ptr<Process>> Exec(const std::string& exec_id, oci::Process process,
                                        bool with_stdin);
  // Empty exec id: init.
  Result<std::shared_ptr<Process>> Find(const std::string& exec_id) const;
  Result<UniqueFd> InitPidfd() const { return init_->Pidfd(); }
  Status Start(const std::string& exec_id);
  Status SignalAll(int signal) const;
  Status Pause();
  Status Resume();
  Status Update(const oci::Resources& resources);
  Result<CgroupStats> Stats() const { return ReadCgroupStats(cgroup_->path()); }
  // Forgets an exec'ed process that has ended.
  Status DeleteExec(const std::string& exec_id);
  // Init has ended: kills the rest, removes the cgroup and unmounts the drives.
  Status Delete();
  // At the guest's end, when all processes are killed: what is on drives must be written.
  void ReleaseDrives();
  Result<std::vector<pid_t>> Pids() const { return cgroup_->Processes(); }
  // Exec id of a pid, when it is one of those.
  std::string ExecIdOf(pid_t pid) const;

 private:
  Container(const Workshop& workshop, std::string id)
      : workshop_(workshop), id_(std::move(id)), huge_pages_(workshop.huge_pages) {}

  // Held while processes are made or started: they would stand still half-way.
  using NotPaused = std::shared_lock<std::shared_timed_mutex>;
  Result<NotPaused> StayUnpaused();
  Status Freeze(bool frozen);
  Status TearDown();
  // Its own, the pod's or another container's; with it come the mappings.
  Status OpenUserNamespace(const NamespacePlan& plan, const Finder& find);
  Status LaunchInit(const NamespacePlan& plan, const Finder& find, bool with_stdin);
  Status AddJoins(const NamespacePlan& plan, const Finder& find, LaunchRequest& request) const;
  Status PrepareLaunch(LaunchRequest& request, bool with_stdin, Stdio::Fds& ours) const;
  Status AddSeccomp(LaunchRequest& request) const;
  Status Confine(LaunchRequest& request) const;
  Result<LaunchRequest> ExecRequest(oci::Process process) const;
  Status RunStartHooks();
  Status RunStartHook(const oci::Hook& hook, const std::string& state,
                      std::chrono::steady_clock::time_point end);
  Status Launch(LaunchRequest request, const std::shared_ptr<Process>& process, bool with_stdin);

  const Workshop& workshop_;
  const std::string id_;
  HugePages::Claim huge_pages_;
  std::string bundle_;
  std::shared_ptr<Cgroup> cgroup_;  // shared with exit callbacks
  oci::Spec spec_;
  UniqueFd user_namespace_;  // invalid: the guest's
  std::optional<SeccompProgram> seccomp_;
  std::shared_ptr<Process> init_;
  bool owns_pids_ = false;      // the kernel kills what is left when init ends
  std::mutex tear_down_mutex_;  // a shutdown may meet a delete
  bool has_drives_ = false;
  DriveMounts drives_;
  WritableLayer upper_;  // on one of the drives
  std::vector<SharedFolders::Held> volumes_;
  OomWatch::Key oom_key_ = 0;
  std::shared_timed_mutex pause_mutex_;
  bool paused_ = false;
  std::mutex update_mutex_;  // of spec_.linux_.resources
  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Process>> execs_;
};

// All containers by id. The lock is held for look-ups only.
class Containers {
 public:
  explicit Containers(Workshop workshop) : workshop_(std::move(workshop)) {}

  Result<std::shared_ptr<Process>> Create(ContainerRequest request);
  Result<std::shared_ptr<Container>> Find(const std::string& id) const;
  Status Delete(const std::string& id);
  // Ends all; drives are unmounted.
  void KillAll();

 private:
  const Workshop workshop_;
  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Container>> containers_;  // null: being created
};

// [A-Za-z0-9][A-Za-z0-9_.+-]*, at most 200.
Status CheckContainerId(const std::string& id);

}  // namespace bulkhead::agent
