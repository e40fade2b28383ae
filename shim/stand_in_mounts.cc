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

constexpr unsigned long kQuiet = MS_NOSUID | MS_NODEV | MS_NOEXEC;

std::string InBundle(const std::string& bundle, const std::string& path) {
  return path.starts_with('/') ? path : fmt::format("{}/{}", bundle, path);
}

Status LeaveMounts() {
  TRY(sys::Unshare(CLONE_NEWNS));
  return sys::Mount("", "/", "", MS_REC | MS_PRIVATE);
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

// The container's mounts one after another, on its rootfs.
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
    for (const std::string& path : covered_) {
      const UniqueFd cover = TRY(OpenInRoot(root_.get(), path));
      TRY(sys::Mount("", FdPath(cover.get()), "", MS_REMOUNT | MS_RDONLY | kQuiet));
    }
    mount_attr attributes{};
    attributes.attr_set =
        MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (readonly ? MOUNT_ATTR_RDONLY : 0U);
    return sys::CheckCall(
        ::mount_setattr(root_.get(), "", AT_EMPTY_PATH, &attributes, sizeof(attributes)),
        "mount_setattr");
  }

 private:
  Tree(UniqueFd root, std::string bundle) : root_(std::move(root)), bundle_(std::move(bundle)) {}

  Status Bind(const oci::Mount& mount) {
    const std::string source = InBundle(bundle_, mount.source);
    const bool folder = sys::IsDirectory(source);
    const UniqueFd tree = TRY(CopyTree(source, oci::HasOption(mount, "rbind")));
    const UniqueFd at = TRY(EnsureInRoot(root_.get(), mount.destination,
                                         folder ? NodeKind::kDirectory : NodeKind::kFile));
    TRY(AttachTree(tree, at));
    if (!oci::HasOption(mount, "ro")) {
      return {};
    }
    const UniqueFd top = TRY(OpenInRoot(root_.get(), mount.destination));
    return sys::Mount("", FdPath(top.get()), "", MS_REMOUNT | MS_BIND | MS_RDONLY);
  }

  Status Cover(const std::string& destination, bool proc) {
    const UniqueFd at = TRY(EnsureInRoot(root_.get(), destination, NodeKind::kDirectory));
    TRY(sys::Mount("tmpfs", FdPath(at.get()), "tmpfs", kQuiet, "size=64k,mode=755"));
    covered_.push_back(destination);
    if (!proc) {
      return {};
    }
    const UniqueFd top = TRY(OpenInRoot(root_.get(), destination));
    return FillProc(FdPath(top.get()));
  }

  UniqueFd root_;
  std::string bundle_;
  std::vector<std::string> covered_;
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
  TRY(sys::Mount("tmpfs", root, "tmpfs", kQuiet, "size=64k,mode=755"));
  const std::string proc = root + "/proc";
  TRY(sys::Mkdir(proc));
  TRY(FillProc(proc));
  TRY(EnterRoot(root));
  return sys::Mount("", "/", "", MS_REMOUNT | MS_RDONLY | kQuiet);
}

}  // namespace bulkhead::shim
