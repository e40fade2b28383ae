// The control group of the host that a container's stand-in is in, as its config.json names it: on
// every hierarchy that there is. A VM's processes are counted there; its limits hold in the guest.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace bulkhead::cli {

struct CgroupMount {
  std::string path;
  bool v2 = false;
  bool cpuset = false;  // of v1: a new group of it has no CPUs until it is given some
};
// Those that can be written to. `mountinfo`: of /proc/self/mountinfo.
std::vector<CgroupMount> ParseCgroupMounts(std::string_view mountinfo);

// Where config.json's linux.cgroupsPath leads below each mount: "/a/b"; with `systemd`, of
// "slice:prefix:name", the path that systemd makes of it. Empty: "/bulkhead-ID".
Result<std::string> CgroupPathOf(const std::string& cgroups_path, const std::string& id,
                                 bool systemd);

class HostCgroup {
 public:
  static Result<HostCgroup> Of(const std::string& path);

  Status Create() const;
  Status Add(pid_t pid) const;
  std::vector<pid_t> Pids() const;
  // What is still in it goes to `heir`, or to the root, as a VM that outlives its first container.
  Status Remove(const HostCgroup* heir) const;

 private:
  HostCgroup(std::vector<CgroupMount> mounts, std::string path)
      : mounts_(std::move(mounts)), path_(std::move(path)) {}

  std::vector<CgroupMount> mounts_;
  std::string path_;
};

}  // namespace bulkhead::cli
