#include "agent/mounts.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "agent/copy_up.h"
#include "base/rooted_path.h"
#include "base/sys.h"
#include "oci/mount_options.h"

namespace bulkhead::agent {
namespace {

// The kinds of source that the OCI specification lets be left out.
std::string FileSystemType(const oci::Mount& mount) {
  return mount.type == "cgroup" ? "cgroup2" : mount.type;
}

// A tmpfs has the mode of the folder that it covers, unless another is asked for.
std::string TmpfsData(const struct stat& covered, const std::string& data) {
  return fmt::format("mode={:04o}{}{}", covered.st_mode & 07777U, data.empty() ? "" : ",", data);
}

bool NamesOwner(const std::string& data) {
  const std::string framed = "," + data;
  return framed.find(",uid=") != std::string::npos || framed.find(",gid=") != std::string::npos;
}

Status SetRecursive(int target, const oci::MountOptions& options) {
  if (options.recursive_set == 0 && options.recursive_clear == 0) {
    return {};
  }
  mount_attr attributes{options.recursive_set, options.recursive_clear, 0, 0};
  return sys::CheckCall(::syscall(SYS_mount_setattr, target, "", AT_EMPTY_PATH | AT_RECURSIVE,
                                  &attributes, sizeof(attributes)),
                        "mount_setattr");
}

// Bits that statvfs(3) and mount(2) name alike.
constexpr unsigned long kKept = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;

Result<unsigned long> FlagsOf(const std::string& path) {
  struct statvfs info {};
  TRY(sys::CheckCall(::statvfs(path.c_str(), &info), "{}", path));
  return info.f_flag & kKept;
}

// In a user namespace a mount keeps the flags that it came with, unless asked to be without.
Status RemountBind(const std::string& path, const oci::MountOptions& options) {
  const unsigned long flags =
      (options.flags & ~static_cast<unsigned long>(MS_REC)) | MS_BIND | MS_REMOUNT;
  const Status mounted = sys::Mount("", path, "", flags);
  if (mounted || mounted.error().errnum() != EPERM) {
    return mounted;
  }
  const unsigned long kept = TRY(FlagsOf(path));
  return (kept & options.cleared) != 0 ? mounted : sys::Mount("", path, "", flags | kept);
}

Status BindMount(int root, const oci::Mount& mount, const oci::MountOptions& options) {
  if (!mount.source.starts_with('/')) {
    return MakeError(ErrorCode::kInvalidArgument, "bind source \"{}\" is not absolute",
                     mount.source);
  }
  const bool folder = S_ISDIR(TRY_AS(sys::Stat(mount.source), "bind source").st_mode);
  const UniqueFd place =
      TRY(EnsureInRoot(root, mount.destination, folder ? NodeKind::kDirectory : NodeKind::kFile));
  TRY(sys::Mount(mount.source, FdPath(place.get()), "", MS_BIND | (options.flags & MS_REC)));
  if (options.explicit_flags) {
    const UniqueFd mounted = TRY(OpenInRoot(root, mount.destination));
    TRY(RemountBind(FdPath(mounted.get()), options));
  }
  return {};
}

Status FileSystemMount(int root, const oci::Mount& mount, const oci::MountOptions& options) {
  const std::string type = FileSystemType(mount);
  const bool covers = type == "tmpfs" && OpenInRoot(root, mount.destination, O_DIRECTORY);
  const UniqueFd place = TRY(EnsureInRoot(root, mount.destination, NodeKind::kDirectory));
  const std::string source = mount.source.empty() ? type : mount.source;
  const std::string data =
      covers ? TmpfsData(TRY(sys::FStat(place.get())), options.data) : options.data;
  const unsigned long later = type == "tmpfs" ? MS_RDONLY : 0;
  TRY(sys::Mount(source, FdPath(place.get()), type, options.flags & ~later, data));
  if (options.copy_up && covers) {
    const UniqueFd mounted = TRY(OpenInRoot(root, mount.destination));
    TRY_AS(CopyUp(place.get(), mounted.get(), !NamesOwner(options.data)), "tmpcopyup");
  }
  return {};
}

Status MountOne(int root, const oci::Mount& mount) {
  const oci::MountOptions options = TRY(oci::ParseMountOptions(mount.options));
  if ((options.flags & MS_REMOUNT) != 0) {
    const UniqueFd mounted = TRY(OpenInRoot(root, mount.destination));
    return sys::Mount("", FdPath(mounted.get()), "", options.flags, options.data);
  }
  if (oci::IsBind(mount)) {
    TRY(BindMount(root, mount, options));
  } else if (mount.type.empty()) {
    return MakeError(ErrorCode::kInvalidArgument, "no file system type");
  } else {
    TRY(FileSystemMount(root, mount, options));
  }
  const UniqueFd mounted = TRY(OpenInRoot(root, mount.destination));
  for (const unsigned long propagation : options.propagation) {
    TRY(sys::Mount("", FdPath(mounted.get()), "", propagation));
  }
  return SetRecursive(mounted.get(), options);
}

}  // namespace

Status MountInRoot(int root, const oci::Mount& mount) {
  TRY_AS(MountOne(root, mount), "mount {} ({})", mount.destination, mount.type);
  return {};
}

Status CloseTmpfs(const std::vector<oci::Mount>& mounts) {
  for (const oci::Mount& mount : mounts) {
    const oci::MountOptions options = TRY(oci::ParseMountOptions(mount.options));
    if (mount.type == "tmpfs" && !oci::IsBind(mount) && (options.flags & MS_RDONLY) != 0) {
      TRY_AS(sys::Mount("", mount.destination, "", options.flags | MS_REMOUNT | MS_BIND),
             "mount {} (tmpfs)", mount.destination);
    }
  }
  return {};
}

Status MaskPath(const std::string& path) {
  const auto info = sys::Stat(path);
  if (!info) {
    return {};
  }
  if (S_ISDIR(info->st_mode)) {
    return sys::Mount("tmpfs", path, "tmpfs", MS_RDONLY, "size=0k");
  }
  return sys::Mount("/dev/null", path, "", MS_BIND);
}

Status MakeReadonly(const std::string& path) {
  if (!sys::Exists(path)) {
    return {};
  }
  TRY(sys::Mount(path, path, "", MS_BIND | MS_REC));
  return RemountReadonly(path);
}

Status RemountReadonly(const std::string& path) {
  return sys::Mount("", path, "", TRY(FlagsOf(path)) | MS_BIND | MS_RDONLY | MS_REMOUNT);
}

}  // namespace bulkhead::agent
