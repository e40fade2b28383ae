#include "shim/storage.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>

#include <cerrno>

#include "base/sys.h"
#include "oci/mount_options.h"
#include "shim/mount_tree.h"

namespace bulkhead::shim {
namespace {

constexpr char kVolumes[] = "volumes";

Result<UniqueFd> BundleRootfs(const std::string& path, int view) {
  return InView(view, [&] { return CopyTree(path, true); });
}

// A rootfs that is put together outside of the shared tree.
Result<UniqueFd> TreeOf(const std::vector<RootfsMount>& rootfs, const std::string& workbench) {
  const Workbench bench = TRY(Workbench::Make(workbench));
  for (const RootfsMount& mount : rootfs) {
    TRY(MountRootfs(mount, bench.path(), workbench));
  }
  return CopyTree(bench.path(), true);
}

Status ShareRootfs(const std::string& target, const std::vector<RootfsMount>& rootfs,
                   const std::string& bundle_rootfs, int view, const std::string& workbench) {
  for (const RootfsMount& mount : rootfs) {
    TRY(MountRootfs(mount, target, workbench));
  }
  if (rootfs.empty() && !bundle_rootfs.empty()) {
    TRY(AttachTree(TRY(BundleRootfs(bundle_rootfs, view)), target));
  }
  return {};
}

Status ShareFixedRootfs(const std::string& target, const std::vector<RootfsMount>& rootfs,
                        const std::string& bundle_rootfs, int view, const std::string& workbench) {
  if (rootfs.empty() && bundle_rootfs.empty()) {
    return {};
  }
  const UniqueFd tree =
      TRY(rootfs.empty() ? BundleRootfs(bundle_rootfs, view) : TreeOf(rootfs, workbench));
  TRY(SetReadonly(tree, true));
  return AttachTree(tree, target);
}

// The guest sees ids as the host's mount shows them.
void ForgetMappings(oci::Mount& mount) {
  mount.uid_mappings.clear();
  mount.gid_mappings.clear();
  std::erase_if(mount.options,
                [](const std::string& option) { return option == "idmap" || option == "ridmap"; });
}

Status UseGuestSource(oci::Mount& mount) {
  const oci::MountOptions options = TRY(oci::ParseMountOptions(mount.options));
  if (!mount.uid_mappings.empty() || options.id_map) {
    return MakeError(ErrorCode::kUnimplemented,
                     "id mappings: its files are the guest's own, not a folder of the host");
  }
  mount.source.erase(0, kGuestPrefix.size());
  return {};
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

Result<SharedTree> SharedTree::Create(const std::string& path, bool by_root) {
  SharedTree tree(TRY(ShareRoot::Make(path)));
  tree.volumes_ = TRY(SharedVolumes::Make(*tree.root_, kVolumes, by_root));
  return tree;
}

Result<SharedFolder> SharedTree::Add(const std::vector<RootfsMount>& rootfs,
                                     const std::string& bundle_rootfs, oci::Spec& spec, int view,
                                     bool fixed) {
  // Never a name twice: the guest may still remember what was behind it.
  const std::string name = std::to_string(++count_);
  auto folder = TRY(SharedFolder::Make(*root_, name));
  const std::string root = folder.path() + "/rootfs";
  const std::string workbench = path() + "." + name;
  TRY_AS(fixed ? ShareFixedRootfs(root, rootfs, bundle_rootfs, view, workbench)
               : ShareRootfs(root, rootfs, bundle_rootfs, view, workbench),
         "rootfs");
  if (!rootfs.empty() || !bundle_rootfs.empty()) {
    spec.root.path = GuestPath(root);
  }
  for (oci::Mount& mount : spec.mounts) {
    if (oci::IsBind(mount)) {
      TRY_AS(AddBind(mount, spec.linux_, view, folder), "mounts: {}", mount.destination);
    }
  }
  return folder;
}

Status SharedTree::AddBind(oci::Mount& mount, const oci::Linux& defaults, int view,
                           SharedFolder& folder) {
  if (mount.source.starts_with(kGuestPrefix)) {
    return UseGuestSource(mount);
  }
  auto volume = TRY(volumes_->Get({mount, defaults.uid_mappings, defaults.gid_mappings, view}));
  mount.source = GuestPath(volume->path());
  ForgetMappings(mount);
  folder.volumes_.push_back(std::move(volume));
  return {};
}

std::string SharedTree::GuestPath(const std::string& path) const {
  return kGuestShare + path.substr(root_->path().size());
}

Result<SharedFolder> SharedFolder::Make(const ShareRoot& root, std::string name) {
  TRY(root.MakeFolder(name, 0700));
  SharedFolder folder(root, std::move(name));
  TRY(root.MakeFolder(folder.name_ + "/rootfs"));
  return folder;
}

SharedFolder::~SharedFolder() {
  if (root_ != nullptr) {
    root_->Remove(name_ + "/rootfs");
    root_->Remove(name_);
  }
}

}  // namespace bulkhead::shim
