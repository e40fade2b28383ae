#include "agent/shared_folders.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/sys.h"
#include "oci/mount_options.h"

namespace bulkhead::agent {
namespace {

// A mount of the share, by now: to open it as a folder is to go into it.
bool IsMountOfShare(const std::string& path) {
  const auto folder = sys::Open(path, O_PATH | O_DIRECTORY);
  struct statfs file_system {};
  struct statx info {};
  return folder && ::fstatfs(folder->get(), &file_system) == 0 &&
         file_system.f_type == FUSE_SUPER_MAGIC &&
         ::statx(folder->get(), "", AT_EMPTY_PATH, STATX_TYPE, &info) == 0 &&
         (info.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

}  // namespace

std::vector<SharedFolders::Held> SharedFolders::Hold(const std::vector<oci::Mount>& mounts) {
  std::vector<Held> held;
  for (const oci::Mount& mount : mounts) {
    if (oci::IsBind(mount) && Enter(mount.source)) {
      held.emplace_back(*this, mount.source);
    }
  }
  return held;
}

bool SharedFolders::Enter(const std::string& path) {
  const std::lock_guard lock(mutex_);
  if (!IsMountOfShare(path)) {
    return false;
  }
  ++counts_[path];
  return true;
}

void SharedFolders::Release(const std::string& path) {
  const std::lock_guard lock(mutex_);
  const auto found = counts_.find(path);
  if (--found->second == 0) {
    counts_.erase(found);
    static_cast<void>(sys::Unmount(path, MNT_DETACH));
  }
}

}  // namespace bulkhead::agent
