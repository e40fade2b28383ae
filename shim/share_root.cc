#include "shim/share_root.h"

#include <fcntl.h>
#include <sys/mount.h>

#include "base/sys.h"
#include "shim/mount_tree.h"

namespace bulkhead::shim {

Result<std::unique_ptr<ShareRoot>> ShareRoot::Make(const std::string& path) {
  UniqueFd behind = TRY(sys::Open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW));
  TRY(sys::Mount(path, path, "", MS_BIND));
  std::unique_ptr<ShareRoot> root(new ShareRoot(path, std::move(behind)));
  // virtiofsd's namespace is a slave of this one: what is mounted later must reach it. Flags of
  // mounts do not, so that the mount has them before.
  TRY(sys::Mount("", path, "", MS_SHARED));
  TRY_AS(SetReadonly(TRY(sys::Open(path, O_PATH | O_DIRECTORY)), false), "{}", path);
  return root;
}

ShareRoot::~ShareRoot() { (void)sys::Unmount(path_, MNT_DETACH); }

Status ShareRoot::MakeFolder(const std::string& name, mode_t mode) const {
  return sys::MkdirAt(behind_.get(), name, mode);
}

Status ShareRoot::MakeFile(const std::string& name) const {
  TRY(sys::OpenAt(behind_.get(), name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0644));
  return {};
}

void ShareRoot::Remove(const std::string& name) const {
  while (sys::Unmount(PathOf(name), MNT_DETACH | UMOUNT_NOFOLLOW)) {
  }
  if (!sys::UnlinkAt(behind_.get(), name, AT_REMOVEDIR)) {
    (void)sys::UnlinkAt(behind_.get(), name);
  }
}

}  // namespace bulkhead::shim
