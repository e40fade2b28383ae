#include "agent/shared_memory.h"

#include <fmt/format.h>
#include <sys/mount.h>

#include <cerrno>

#include "base/sys.h"

namespace bulkhead::agent {

Status ShareMemory(const std::string& name, uint64_t size_bytes) {
  TRY(sys::MkdirAll("/run/shm"));
  const std::string path = "/run/shm/" + name;
  if (auto made = sys::Mkdir(path); !made) {
    return made.error().errnum() == EEXIST ? Status() : made;
  }
  Status mounted = sys::Mount("shm", path, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
                              fmt::format("mode=1777,size={}", size_bytes));
  if (!mounted) {
    static_cast<void>(sys::Rmdir(path));
  }
  return mounted;
}

Status ReleaseMemory(const std::string& name) {
  const std::string path = "/run/shm/" + name;
  TRY(sys::Unmount(path, MNT_DETACH));
  return sys::Rmdir(path);
}

}  // namespace bulkhead::agent
