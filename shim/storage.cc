#include "shim/storage.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "base/sys.h"
#include "oci/mount_options.h"
#include "shim/mount_tree.h"

namespace bulkhead::shim {
namespace {

// mount(2) copies one page of options.
constexpr size_t kMaxMountData = 4095;

Status MountRootfs(const RootfsMount& mount, const std::string& target) {
  const oci::MountOptions options = TRY(oci::ParseMountOptions(mount.options));
  if (options.data.size() > kMaxMountData) {
    return MakeError(ErrorCode::kResourceExhausted,
                     "mount {}: {} bytes of options are more than the kernel takes ({}): the image "
                     "has too many layers",
                     mount.type, options.data.size(), kMaxMountData);
  }
  const bool bind = mount.type == "bind" || (options.flags & MS_BIND) != 0;
  if (!bind) {
    return sys::Mount(mount.source, target, mount.type, options.flags, options.data);
  }
  const UniqueFd tree = TRY(CopyTree(mount.source, (options.flags & MS_REC) != 0));
  if ((options.flags & MS_RDONLY) != 0) {
    TRY(SetReadonly(tree, false));
  }
  return AttachTree(tree, target);
}

// CopyTree() in another mount namespace; negative: in this one.
Result<UniqueFd> CopyTreeIn(int view, const std::string& path, bool recursive) {
  if (view < 0) {
    return CopyTree(path, recursive);
  }
  Result<UniqueFd> tree = MakeError(ErrorCode::kInternal, "not opened");
  const auto copy = [&]() -> Result<UniqueFd> {
    TRY(sys::Unshare(CLONE_FS));
    TRY(sys::SetNs(view, CLONE_NEWNS));
    return CopyTree(path, recursive);
  };
  std::thread([&] { tree = copy(); }).join();  // its mount namespace ends with it
  return tree;
}

// A folder outside of the shared tree, where a rootfs is put together.
class Workbench {
 public:
  static Result<Workbench> Make(std::string path) {
    TRY(sys::Mkdir(path, 0700));
    return Workbench(std::move(path));
  }
  Workbench(Workbench&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  Workbench& operator=(Workbench&&) = delete;
  ~Workbench() {
    if (!path_.empty()) {
      while (sys::Unmount(path_, MNT_DETACH)) {
      }
      (void)sys::Rmdir(path_);
    }
  }
  const std::string& path() const { return path_; }

 private:
  explicit Workbench(std::string path) : path_(std::move(path)) {}

  std::string path_;  // empty: moved from
};

Result<UniqueFd> TreeOf(const std::vector<RootfsMount>& rootfs, std::string workbench) {
  const Workbench bench = TRY(Workbench::Make(std::move(workbench)));
  for (const RootfsMount& mount : rootfs) {
    TRY(MountRootfs(mount, bench.path()));
  }
  return CopyTree(bench.path(), true);
}

Status ShareRootfs(const std::string& target, const std::vector<RootfsMount>& rootfs,
                   const std::string& bundle_rootfs, int view) {
  for (const RootfsMount& mount : rootfs) {
    TRY(MountRootfs(mount, target));
  }
  if (rootfs.empty() && !bundle_rootfs.empty()) {
    TRY(AttachTree(TRY(CopyTreeIn(view, bundle_rootfs, true)), target));
  }
  return {};
}

Status ShareFixedRootfs(const std::string& target, const std::vector<RootfsMount>& rootfs,
                        const std::string& bundle_rootfs, int view, std::string workbench) {
  if (rootfs.empty() && bundle_rootfs.empty()) {
    return {};
  }
  const UniqueFd tree = TRY(rootfs.empty() ? CopyTreeIn(view, bundle_rootfs, true)
                                           : TreeOf(rootfs, std::move(workbench)));
  TRY(SetReadonly(tree, true));
  return AttachTree(tree, target);
}

Status ShareBind(const std::string& target, const oci::Mount& mount, int view) {
  const bool recursive = oci::HasOption(mount, "rbind");
  const UniqueFd tree = TRY(CopyTreeIn(view, mount.source, recursive));
  const oci::MountOptions options = TRY(oci::ParseMountOptions(mount.options));
  if (!options.propagation.empty() && (options.propagation.back() & MS_PRIVATE) != 0) {
    TRY_AS(SetPropagation(tree, recursive, MS_PRIVATE), "{}", mount.source);
  }
  const auto info = TRY(sys::FStat(tree.get()));
  if (S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode)) {
    return MakeError(ErrorCode::kUnimplemented,
                     "{} is a device of the host: a virtual machine cannot share it", mount.source);
  }
  if (S_ISDIR(info.st_mode)) {
    TRY(sys::Mkdir(target));
  } else {
    TRY(sys::WriteFile(target, ""));
  }
  // The guest is told the same, but is not believed.
  const bool all = oci::HasOption(mount, "rro");
  if (all || oci::HasOption(mount, "ro")) {
    TRY_AS(SetReadonly(tree, all), "{}", mount.source);
  }
  return AttachTree(tree, target);
}

}  // namespace

Result<UniqueFd> EnterOwnMountNamespace() {
  UniqueFd host = TRY(sys::Open("/proc/self/ns/mnt", O_RDONLY));
  TRY(sys::Unshare(CLONE_NEWNS));
  if (auto slave = sys::Mount("", "/", "", MS_REC | MS_SLAVE); !slave) {
    return slave.error().errnum() == EINVAL
               ? MakeError(ErrorCode::kFailedPrecondition,
                           "the root folder is no mount point, as in a chroot: bind it onto itself "
                           "(mount --bind) before the chroot")
               : tl::unexpected(slave.error());
  }
  return host;
}

Status LeaveToMountNamespace(const UniqueFd& host) {
  TRY(sys::Unshare(CLONE_FS));
  return sys::SetNs(host.get(), CLONE_NEWNS);
}

Result<SharedTree> SharedTree::Create(const std::string& path) {
  TRY(sys::Mount(path, path, "", MS_BIND));
  SharedTree tree(path);
  // virtiofsd's namespace is a slave of this one: what is mounted later must reach it.
  TRY(sys::Mount("", path, "", MS_SHARED));
  return tree;
}

SharedTree::~SharedTree() {
  if (!path_.empty()) {
    (void)sys::Unmount(path_, MNT_DETACH);
  }
}

Result<SharedFolder> SharedTree::Add(const std::vector<RootfsMount>& rootfs,
                                     const std::string& bundle_rootfs, oci::Spec& spec, int view,
                                     bool fixed) {
  // Never a name twice: the guest may still remember what was behind it.
  const std::string name = std::to_string(++count_);
  auto folder = TRY(SharedFolder::Make(path_ + "/" + name));
  const std::string guest_folder = std::string(kGuestShare) + "/" + name;
  const std::string root = folder.path() + "/rootfs";
  TRY_AS(fixed ? ShareFixedRootfs(root, rootfs, bundle_rootfs, view, path_ + "." + name)
               : ShareRootfs(root, rootfs, bundle_rootfs, view),
         "rootfs");
  if (!rootfs.empty() || !bundle_rootfs.empty()) {
    spec.root.path = guest_folder + "/rootfs";
  }
  for (size_t i = 0; i < spec.mounts.size(); ++i) {
    oci::Mount& mount = spec.mounts[i];
    if (!oci::IsBind(mount)) {
      continue;
    }
    if (mount.source.starts_with(kGuestPrefix)) {
      mount.source.erase(0, kGuestPrefix.size());
    } else {
      const std::string path = fmt::format("/mounts/{}", i);
      TRY_AS(ShareBind(folder.path() + path, mount, view), "mounts: {}", mount.destination);
      mount.source = guest_folder + path;
    }
  }
  return folder;
}

Result<SharedFolder> SharedFolder::Make(std::string path) {
  TRY(sys::Mkdir(path, 0700));
  SharedFolder folder(std::move(path));
  TRY(sys::Mkdir(folder.path() + "/rootfs"));
  TRY(sys::Mkdir(folder.path() + "/mounts"));
  return folder;
}

SharedFolder::~SharedFolder() {
  if (path_.empty()) {
    return;
  }
  const std::string binds = path_ + "/mounts";
  const auto names = sys::ListDirectory(binds).value_or(std::vector<std::string>());
  for (const std::string& name : names) {
    (void)sys::Unmount(fmt::format("{}/{}", binds, name), MNT_DETACH);
  }
  while (sys::Unmount(path_ + "/rootfs", MNT_DETACH)) {
  }
  // Never RemoveAll: should an unmount have failed, the files below are the user's.
  for (const std::string& name : names) {
    const std::string path = fmt::format("{}/{}", binds, name);
    if (!sys::Rmdir(path)) {
      (void)sys::Unlink(path);
    }
  }
  (void)sys::Rmdir(binds);
  (void)sys::Rmdir(path_ + "/rootfs");
  (void)sys::Rmdir(path_);
}

}  // namespace bulkhead::shim
