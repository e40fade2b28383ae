#include "cli/engine/cgroup.h"

#include <algorithm>
#include <cerrno>
#include <set>
#include <sstream>
#include <thread>

#include "base/sys.h"

namespace bulkhead::cli {
namespace {

constexpr int kRemoveAttempts = 50;
constexpr std::chrono::milliseconds kRemovePause(10);

bool HasWord(std::string_view list, std::string_view word) {
  while (!list.empty()) {
    const std::string_view first = list.substr(0, list.find(','));
    if (first == word) {
      return true;
    }
    list.remove_prefix(std::min(list.size(), first.size() + 1));
  }
  return false;
}

// A group of the cpuset hierarchy takes no process before it has CPUs and memory nodes.
Status FillCpuset(const std::string& folder, const std::string& parent) {
  for (const char* file : {"/cpuset.cpus", "/cpuset.mems"}) {
    const std::string own = TRY(sys::ReadFile(folder + file));
    if (own.find_first_not_of(" \n") == std::string::npos) {
      TRY(sys::WriteExisting(folder + file, TRY(sys::ReadFile(parent + file))));
    }
  }
  return {};
}

Status MakeGroup(const CgroupMount& mount, const std::string& path) {
  std::string folder = mount.path;
  std::istringstream names(path);
  for (std::string name; std::getline(names, name, '/');) {
    if (name.empty()) {
      continue;
    }
    const std::string parent = folder;
    folder += "/" + name;
    const Status made = sys::Mkdir(folder);
    if (!made && made.error().code() != ErrorCode::kAlreadyExists) {
      return made;
    }
    if (mount.cpuset) {
      TRY(FillCpuset(folder, parent));
    }
  }
  return {};
}

// "a-b.slice" lies in "a.slice".
std::string SlicePath(const std::string& slice) {
  const std::string stem = slice.substr(0, slice.size() - std::string_view(".slice").size());
  std::string path;
  for (size_t dash = stem.find('-'); dash != std::string::npos; dash = stem.find('-', dash + 1)) {
    path += "/" + stem.substr(0, dash) + ".slice";
  }
  return path + "/" + slice;
}

}  // namespace

std::vector<CgroupMount> ParseCgroupMounts(std::string_view mountinfo) {
  std::vector<CgroupMount> mounts;
  std::set<std::string> seen;  // the same hierarchy may be mounted twice
  std::istringstream lines{std::string(mountinfo)};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string id;
    std::string parent;
    std::string device;
    std::string root;
    std::string path;
    std::string options;
    words >> id >> parent >> device >> root >> path >> options;
    for (std::string word; words >> word && word != "-";) {
    }
    std::string type;
    std::string source;
    std::string super;
    words >> type >> source >> super;
    const bool v2 = type == "cgroup2";
    if ((v2 || type == "cgroup") && !HasWord(options, "ro") && seen.insert(device).second) {
      mounts.push_back({path, v2, !v2 && HasWord(super, "cpuset")});
    }
  }
  return mounts;
}

Result<std::string> CgroupPathOf(const std::string& cgroups_path, const std::string& id,
                                 bool systemd) {
  if (cgroups_path.empty()) {
    return "/bulkhead-" + id;  // no parent that would stay
  }
  const auto bad = [&](std::string_view what) {
    return MakeError(ErrorCode::kInvalidArgument, "linux.cgroupsPath: \"{}\": {}", cgroups_path,
                     what);
  };
  std::istringstream names(cgroups_path);
  for (std::string name; std::getline(names, name, '/');) {
    if (name == "..") {
      return bad("must not lead upwards");
    }
  }
  if (!systemd) {
    if (!cgroups_path.starts_with('/') &&
        std::count(cgroups_path.begin(), cgroups_path.end(), ':') == 2) {
      return bad("is of systemd's form, which --systemd-cgroup announces");
    }
    return cgroups_path.starts_with('/') ? cgroups_path : "/" + cgroups_path;
  }
  const size_t first = cgroups_path.find(':');
  const size_t second = first == std::string::npos ? first : cgroups_path.find(':', first + 1);
  if (second == std::string::npos) {
    return bad("expected slice:prefix:name with --systemd-cgroup");
  }
  std::string slice = cgroups_path.substr(0, first);
  const std::string prefix = cgroups_path.substr(first + 1, second - first - 1);
  const std::string name = cgroups_path.substr(second + 1);
  if (slice.empty()) {
    slice = "system.slice";
  }
  if (!slice.ends_with(".slice") || slice.find('/') != std::string::npos || name.empty()) {
    return bad("expected slice:prefix:name with --systemd-cgroup");
  }
  return SlicePath(slice) + "/" +
         (name.ends_with(".slice") ? name : (prefix.empty() ? "" : prefix + "-") + name + ".scope");
}

Result<HostCgroup> HostCgroup::Of(const std::string& path) {
  return HostCgroup(ParseCgroupMounts(TRY(sys::ReadFile("/proc/self/mountinfo"))), path);
}

Status HostCgroup::Create() const {
  for (const CgroupMount& mount : mounts_) {
    TRY_AS(MakeGroup(mount, path_), "linux.cgroupsPath");
  }
  return {};
}

Status HostCgroup::Add(pid_t pid) const {
  for (const CgroupMount& mount : mounts_) {
    TRY_AS(sys::WriteExisting(mount.path + path_ + "/cgroup.procs", std::to_string(pid)),
           "linux.cgroupsPath");
  }
  return {};
}

std::vector<pid_t> HostCgroup::Pids() const {
  std::vector<pid_t> pids;
  if (!mounts_.empty()) {
    std::istringstream words(
        sys::ReadFile(mounts_.front().path + path_ + "/cgroup.procs").value_or(""));
    for (pid_t pid = 0; words >> pid;) {
      pids.push_back(pid);
    }
  }
  return pids;
}

Status HostCgroup::Remove(const HostCgroup* heir) const {
  for (const CgroupMount& mount : mounts_) {
    const std::string folder = mount.path + path_;
    const std::string target = mount.path + (heir != nullptr ? heir->path_ : "") + "/cgroup.procs";
    Status removed;
    // What was killed stays for a moment.
    for (int i = 0; i < kRemoveAttempts; ++i) {
      std::istringstream pids(sys::ReadFile(folder + "/cgroup.procs").value_or(""));
      for (std::string pid; pids >> pid;) {
        (void)sys::WriteExisting(target, pid);
      }
      removed = sys::Rmdir(folder);
      if (removed || removed.error().errnum() != EBUSY) {
        break;
      }
      std::this_thread::sleep_for(kRemovePause);
    }
    if (!removed && removed.error().code() != ErrorCode::kNotFound) {
      return removed;
    }
  }
  return {};
}

}  // namespace bulkhead::cli
