// A container's control group (v2).
#pragma once

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "oci/spec.h"

namespace bulkhead::agent {

// A file of the cgroup and what is written to it.
using CgroupSetting = std::pair<std::string, std::string>;

// cpu.shares of cgroup v1 (2 to 262144) as cpu.weight (1 to 10000), by runc's formula.
uint64_t CpuWeightFromShares(uint64_t shares);
// What the OCI resources mean in cgroup v2, in the order they are written.
Result<std::vector<CgroupSetting>> CgroupSettings(const oci::Resources& resources);

// `update` with what it leaves open of a file that it changes: quota and period share one, and the
// limit of swap is counted from that of memory.
oci::Resources CompleteUpdate(const oci::Resources& current, oci::Resources update);
// Notes in `current` what a later update may need of this one.
void RememberUpdate(const oci::Resources& applied, oci::Resources& current);

// Owns the folder: the destructor kills what is inside and removes it.
class Cgroup {
 public:
  // A new cgroup ROOT/NAME; one of that name must not exist.
  static Result<Cgroup> Create(const std::string& root, const std::string& name);

  Cgroup(Cgroup&& other) noexcept = default;
  Cgroup& operator=(Cgroup&& other) noexcept = delete;
  ~Cgroup();

  // Limits, then the device filter.
  Status Apply(const oci::Resources& resources, bool device_filter = true);
  // What is named and nothing else. Device rules are left alone, as by runc: engines repeat them.
  Status Update(const oci::Resources& resources);
  // Stops or continues all processes in it and below; returns when that is so (bounded). One that
  // cannot be stopped lets the others go on, too.
  Status Freeze(bool frozen) const;
  // To the root of a user namespace: it may make cgroups below and move processes among them, as
  // far as the container's mount of it lets it; the limits stay with the guest's root.
  Status Delegate(uid_t uid, gid_t gid) const;
  int fd() const { return fd_.get(); }
  // Where a further process is to be born: here, or (when the container has made cgroups of its own
  // and given them controllers, as systemd does, so that this one takes no processes) beside
  // `init`.
  Result<UniqueFd> ForExec(pid_t init) const;
  const std::string& path() const { return path_; }
  // How often the OOM killer struck in it or below.
  uint64_t OomKills() const;
  // SIGKILL to every process in it and below.
  Status Kill() const;
  // The same with any signal. Races with forks, as runc's does.
  Status Signal(int signal) const;
  // Every process in it and below.
  Result<std::vector<pid_t>> Processes() const;
  // Kills, waits until it is empty (bounded) and removes it with all below.
  Status Remove();

 private:
  Cgroup(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}

  std::string path_;
  UniqueFd fd_;  // invalid: removed
};

// Every controller there is, for the children of `root`.
Status EnableControllers(const std::string& root);

}  // namespace bulkhead::agent
