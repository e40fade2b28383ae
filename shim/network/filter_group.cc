#include "shim/network/filter_group.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <sstream>
#include <string_view>
#include <thread>

#include "base/sys.h"

namespace bulkhead::shim {
namespace {

constexpr char kPrefix[] = "bulkhead-net-";

// No mount of ours is seen.
Result<UniqueFd> OpenHierarchy() {
  const UniqueFd context(::fsopen("cgroup2", FSOPEN_CLOEXEC));
  TRY(sys::CheckCall(context.get(), "fsopen cgroup2"));
  TRY(sys::CheckCall(::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0),
                     "fsconfig cgroup2"));
  UniqueFd mount(::fsmount(context.get(), FSMOUNT_CLOEXEC, 0));
  TRY(sys::CheckCall(mount.get(), "fsmount cgroup2"));
  return mount;
}

// "/" or "/a/b".
Result<std::string> OwnGroup() {
  constexpr std::string_view kLine = "0::/";
  std::istringstream lines(TRY(sys::ReadFile("/proc/self/cgroup")));
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(kLine)) {
      return line.substr(kLine.size() - 1);
    }
  }
  return MakeError(ErrorCode::kNotFound, "/proc/self/cgroup tells no group of version 2");
}

}  // namespace

Result<FilterGroup> FilterGroup::Make() {
  const UniqueFd root = TRY(OpenHierarchy());
  const std::string own = TRY(OwnGroup());
  const std::string path =
      fmt::format("{}{}{}{}-{:x}", own, own.ends_with('/') ? "" : "/", kPrefix, ::getpid(),
                  std::chrono::steady_clock::now().time_since_epoch().count());
  const std::string relative = "." + path;
  TRY(sys::CheckCall(::mkdirat(root.get(), relative.c_str(), 0755), "cgroup {}", path));
  FilterGroup group(path, UniqueFd());
  group.group_ = UniqueFd(
      ::openat(root.get(), relative.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  TRY(sys::CheckCall(group.fd(), "cgroup {}", path));
  return group;
}

FilterGroup::~FilterGroup() {
  if (!path_.empty()) {
    (void)Remove(path_);
  }
}

Status FilterGroup::Remove(const std::string& path) {
  if (path.find(std::string("/") + kPrefix) == std::string::npos) {
    return MakeError(ErrorCode::kInvalidArgument, "cgroup {}: not one of ours", path);
  }
  const UniqueFd root = TRY(OpenHierarchy());
  constexpr int kTries = 200;
  for (int i = 0;; ++i) {
    const Status removed = sys::CheckCall(
        ::unlinkat(root.get(), ("." + path).c_str(), AT_REMOVEDIR), "cgroup {}", path);
    const int error = removed ? 0 : removed.error().errnum();
    if (error != EBUSY || i == kTries) {
      return error == ENOENT ? Status() : removed;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

}  // namespace bulkhead::shim
