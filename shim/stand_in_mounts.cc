#include "shim/stand_in_mounts.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <vector>

#include "base/rooted_path.h"
#include "base/sys.h"
#include "oci/mount_options.h"
#include "oci/spec.h"
#include "shim/mount_tree.h"

namespace bulkhead::shim {
namespace {

std::string InBundle(const std::string& bundle, const std::string& path) {
  return path.starts_with('/') ? path : fmt::format("{}/{}", bundle, path);
}

Status LeaveMounts() {
  TRY(sys::Unshare(CLONE_NEWNS));
  return sys::Mount("", "/", "", MS_REC | MS_SLAVE);  // what the host unmounts goes here, too
}

Status EnterRoot(const std::string& root) {
  TRY(sys::Chdir(root));
  TRY(sys::PivotRoot(".", "."));
  TRY(sys::Unmount(".", MNT_DETACH));
  return sys::Chdir("/");
}

Status AddToProc(const std::string& from, const std::string& to) {
  const UniqueFd copy = TRY(CopyTree(from, false));
  TRY(sys::IsDirectory(from) ? sys::Mkdir(to) : sys::WriteFile(to, ""));
  return AttachTree(copy, to);
}

Status FillProc(const std::string& proc) {
  TRY(AddToProc(fmt::format("/proc/{}", ::getpid()), proc + "/1"));
  for (const char* name : {"/stat", "/uptime", "/meminfo", "/loadavg", "/version"}) {
    TRY(AddToProc(std::string("/proc") + name, proc + name));
  }
  return {};
}

// A small tmpfs that is attached nowhere yet.
Result<UniqueFd> NewTmpfs() {
  const UniqueFd context(::fsopen("tmpfs", FSOPEN_CLOEXEC));
  TRY(sys::CheckCall(context.get(), "fsopen tmpfs"));
  for (const auto& [key, value] : {std::pair("size", "64k"), std::pair("mode", "755")}) {
    TRY(sys::CheckCall(::fsconfig(context.get(), FSCONFIG_SET_STRING, key, value, 0), "fsconfig {}",
                       key));
  }
  TRY(sys::CheckCall(::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0),
                     "fsconfig"));
  UniqueFd mount(::fsmount(context.get(), FSMOUNT_CLOEXEC,
                           MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
  TRY(sys::CheckCall(mount.get(), "fsmount"));
  return mount;
}

// Of the mount alone: what it shows, which may be the host's, stays as it is.
Status SetAttributes(const UniqueFd& mount, uint64_t set) {
  mount_attr attributes{};
  attributes.attr_set = set;
  return sys::CheckCall(
      ::mount_setattr(mount.get(), "", AT_EMPTY_PATH, &attributes, sizeof(attributes)),
      "mount_setattr");
}

// The container's mounts one after another, on its rootfs. Mounts of our own are held by their fds:
// a path may lead to another by then.
class Tree {
 public:
  static Result<Tree> Make(const std::string& rootfs, const std::string& bundle) {
    TRY(AttachTree(TRY(CopyTree(rootfs, true)), rootfs));  // over itself: it hides nothing else
    return Tree(TRY(sys::Open(rootfs, O_PATH | O_DIRECTORY)), bundle);
  }

  Status Add(const oci::Mount& mount) {
    return oci::IsBind(mount) ? Bind(mount) : Cover(mount.destination, mount.type == "proc");
  }
  // When nothing goes below any more.
  Status Close(bool readonly) {
    for (const UniqueFd& cover : covers_) {
      TRY(SetAttributes(cover, MOUNT_ATTR_RDONLY));
    }
    return SetAttributes(
        root_, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (readonly ? MOUNT_ATTR_RDONLY : 0U));
  }

 private:
  Tree(UniqueFd root, std::string bundle) : root_(std::move(root)), bundle_(std::move(bundle)) {}

  Status Bind(const oci::Mount& mount) {
    const std::string source = InBundle(bundle_, mount.source);
    const bool folder = sys::IsDirectory(source);
    const UniqueFd tree = TRY(CopyTree(source, oci::HasOption(mount, "rbind")));
    if (oci::HasOption(mount, "ro")) {
      TRY(SetAttributes(tree, MOUNT_ATTR_RDONLY));
    }
    return AttachTree(tree, TRY(EnsureInRoot(root_.get(), mount.destination,
                                             folder ? NodeKind::kDirectory : NodeKind::kFile)));
  }

  Status Cover(const std::string& destination, bool proc) {
    UniqueFd cover = TRY(NewTmpfs());
    TRY(AttachTree(cover, TRY(EnsureInRoot(root_.get(), destination, NodeKind::kDirectory))));
    if (proc) {
      TRY(FillProc(FdPath(cover.get())));
    }
    covers_.push_back(std::move(cover));
    return {};
  }

  UniqueFd root_;
  std::string bundle_;
  std::vector<UniqueFd> covers_;
};

}  // namespace

Status ShowContainer(const std::string& bundle) {
  const oci::Spec spec = TRY(oci::ParseSpec(TRY(sys::ReadFile(bundle + "/config.json"))));
  TRY(LeaveMounts());
  const std::string rootfs = InBundle(bundle, spec.root.path);
  Tree tree = TRY(Tree::Make(rootfs, bundle));
  for (const oci::Mount& mount : spec.mounts) {
    TRY_AS(tree.Add(mount), "mounts: {}", mount.destination);
  }
  TRY(tree.Close(spec.root.readonly));
  return EnterRoot(rootfs);
}

Status HideHost() {
  const std::string root = "/tmp";  // covered in the new namespace alone
  TRY(LeaveMounts());
  const UniqueFd cover = TRY(NewTmpfs());
  TRY(AttachTree(cover, root));
  const std::string proc = root + "/proc";
  TRY(sys::Mkdir(proc));
  TRY(FillProc(proc));
  TRY(SetAttributes(cover, MOUNT_ATTR_RDONLY));
  return EnterRoot(root);
}

}  // namespace bulkhead::shim
