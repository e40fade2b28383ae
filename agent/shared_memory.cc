#include "agent/shared_memory.h"

#include <fmt/format.h>
#include <sys/mount.h>

#include <cerrno>

#include "base/scope_guard.h"
#include "base/sys.h"

namespace bulkhead::agent {

Status SharedMemory::Mount(const std::string& name, const std::string& path,
                           const SharedMemoryRequest& request) {
  if (request.huge_page_bytes == 0) {
    return sys::Mount("shm", path, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
                      fmt::format("mode=1777,size={}", request.size_bytes));
  }
  const auto claim = claims_.try_emplace(name, pages_).first;
  ScopeGuard release([&] { claims_.erase(claim); });
  TRY(claim->second.Set(request.huge_page_bytes, request.reserved_bytes));
  std::string options = fmt::format("pagesize={}K", request.huge_page_bytes >> 10U);
  if (request.size_bytes != 0) {
    options += fmt::format(",size={}", request.size_bytes);
  }
  TRY(sys::Mount("hugepages", path, "hugetlbfs", MS_NOSUID | MS_NODEV, options));
  ScopeGuard unmount([&] { static_cast<void>(sys::Unmount(path)); });
  TRY(sys::Chown(path, request.uid, request.gid));
  TRY(sys::Chmod(path, request.mode));  // its options know no S_ISGID
  unmount.Dismiss();
  release.Dismiss();
  return {};
}

Status SharedMemory::Share(const std::string& name, const SharedMemoryRequest& request) {
  const std::lock_guard lock(mutex_);
  TRY(sys::MkdirAll("/run/shm"));
  const std::string path = "/run/shm/" + name;
  if (auto made = sys::Mkdir(path); !made) {
    return made.error().errnum() == EEXIST ? Status() : made;
  }
  Status mounted = Mount(name, path, request);
  if (!mounted) {
    static_cast<void>(sys::Rmdir(path));
  }
  return mounted;
}

Status SharedMemory::Release(const std::string& name) {
  const std::lock_guard lock(mutex_);
  const std::string path = "/run/shm/" + name;
  TRY(sys::Unmount(path, MNT_DETACH));
  claims_.erase(name);
  return sys::Rmdir(path);
}

}  // namespace bulkhead::agent
