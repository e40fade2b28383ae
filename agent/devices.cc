#include "agent/devices.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>

#include "base/rooted_path.h"
#include "base/sys.h"

namespace bulkhead::agent {
namespace {

constexpr uint32_t kDefaultMode = 0666;

mode_t NodeType(const oci::Device& device) {
  return device.type == "b" ? S_IFBLK : device.type == "p" ? S_IFIFO : S_IFCHR;
}

Status MakeLink(int dev, const char* target, const char* name) {
  if (::symlinkat(target, dev, name) == -1 && sys::LastErrno() != EEXIST) {
    return sys::CheckCall(-1, "symlink /dev/{}", name);
  }
  return {};
}

Status MakeDevice(int root, const oci::Device& device) {
  const auto [parent_path, name] = Split(device.path);
  const UniqueFd parent = TRY(EnsureInRoot(root, parent_path, NodeKind::kDirectory));
  const mode_t type = NodeType(device);
  const dev_t number = type == S_IFIFO ? 0
                                       : ::makedev(static_cast<unsigned>(device.major),
                                                   static_cast<unsigned>(device.minor));
  // An image's own /dev may hold a node, or anything else, of that name.
  if (::unlinkat(parent.get(), name.c_str(), 0) == -1 && sys::LastErrno() != ENOENT) {
    return sys::CheckCall(-1, "replace");
  }
  TRY(sys::CheckCall(::mknodat(parent.get(), name.c_str(), type | 0600, number), "mknod"));
  const UniqueFd node = TRY(sys::OpenAt(parent.get(), name, O_PATH | O_NOFOLLOW));
  const std::string path = FdPath(node.get());
  TRY(sys::Chown(path, device.uid.value_or(0), device.gid.value_or(0)));
  return sys::Chmod(path, device.file_mode.value_or(kDefaultMode) & 07777U);
}

}  // namespace

std::vector<oci::Device> StandardDevices() {
  const auto character = [](const char* path, int64_t major, int64_t minor) {
    return oci::Device{"c", path, major, minor, kDefaultMode, {}, {}};
  };
  return {character("/dev/null", 1, 3),    character("/dev/zero", 1, 5),
          character("/dev/full", 1, 7),    character("/dev/random", 1, 8),
          character("/dev/urandom", 1, 9), character("/dev/tty", 5, 0)};
}

Status MakeDevices(int root, const std::vector<oci::Device>& devices) {
  for (const oci::Device& device : devices) {
    TRY_AS(MakeDevice(root, device), "device {}", device.path);
  }
  return {};
}

Status MakeDeviceLinks(int root) {
  const UniqueFd dev = TRY(EnsureInRoot(root, "/dev", NodeKind::kDirectory));
  TRY(MakeLink(dev.get(), "/proc/self/fd", "fd"));
  TRY(MakeLink(dev.get(), "/proc/self/fd/0", "stdin"));
  TRY(MakeLink(dev.get(), "/proc/self/fd/1", "stdout"));
  TRY(MakeLink(dev.get(), "/proc/self/fd/2", "stderr"));
  // The container's own devpts, whatever the image has there.
  static_cast<void>(::unlinkat(dev.get(), "ptmx", 0));
  return MakeLink(dev.get(), "pts/ptmx", "ptmx");
}

}  // namespace bulkhead::agent
