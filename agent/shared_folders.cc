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
    if (oci::IsBind(mount)) {
      held.emplace_back(*this, mount.source);
    }
  }
  return held;
}

SharedFolders::Held::Held(SharedFolders& folders, std::string path)
    : folders_(&folders), path_(std::move(path)) {
  {
    const std::lock_guard lock(folders_->mutex_);
    auto& folder = folders_->folders_[path_];
    if (folder == nullptr) {
      folder = std::make_shared<Folder>();
    }
    ++folder->holders;
    folder_ = folder;
  }
  const std::lock_guard lock(folder_->mutex);
  folder_->mounted = folder_->mounted || IsMountOfShare(path_);
}

SharedFolders::Held::~Held() {
  if (folders_ == nullptr) {
    return;
  }
  const std::lock_guard own(folder_->mutex);
  std::unique_lock lock(folders_->mutex_);
  if (--folder_->holders != 0) {
    return;
  }
  if (folder_->mounted) {
    lock.unlock();
    static_cast<void>(sys::Unmount(path_, MNT_DETACH));
    folder_->mounted = false;
    lock.lock();
  }
  if (folder_->holders == 0) {  // nobody has come meanwhile
    folders_->folders_.erase(path_);
  }
}

}  // namespace bulkhead::agent
