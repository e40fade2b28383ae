#include "agent/drives.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <sstream>
#include <thread>

#include "base/rooted_path.h"
#include "base/sys.h"
#include "oci/mount_options.h"

namespace bulkhead::agent {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr auto kReleaseTimeout = std::chrono::seconds(2);

template <typename F>
bool Poll(milliseconds timeout, F done) {
  const auto deadline = steady_clock::now() + timeout;
  for (auto pause = milliseconds(1); !done(); pause = std::min(pause * 2, milliseconds(50))) {
    if (steady_clock::now() > deadline) {
      return false;
    }
    std::this_thread::sleep_for(pause);
  }
  return true;
}

Result<std::string> AwaitDevice(const std::string& serial, milliseconds timeout) {
  std::string path;
  const bool found = Poll(timeout, [&] {
    const auto name = FindBlockDevice("/sys/block", serial);
    path = name ? "/dev/" + *name : "";
    return name && sys::Exists(path);
  });
  if (!found) {
    return MakeError(ErrorCode::kNotFound, "no block device appeared within {} s",
                     timeout.count() / 1000);
  }
  return path;
}

Result<oci::MountOptions> ParseOptions(const Drive& drive) {
  oci::MountOptions options = TRY(oci::ParseMountOptions(drive.options));
  if ((options.flags & (MS_BIND | MS_REMOUNT)) != 0 || !options.propagation.empty() ||
      options.recursive_set != 0 || options.recursive_clear != 0 || options.copy_up) {
    return MakeError(ErrorCode::kInvalidArgument, "options that are not for a block device");
  }
  if (drive.filesystem == "erofs" || drive.filesystem == "squashfs") {
    options.flags |= MS_RDONLY;
  }
  return options;
}

// Another container may have the same device mounted.
bool MountedElsewhere(const std::string& device) {
  const auto info = sys::Stat(device);
  if (!info) {
    return false;
  }
  const std::string number = fmt::format("{}:{}", ::major(info->st_rdev), ::minor(info->st_rdev));
  std::istringstream lines(sys::ReadFile("/proc/self/mountinfo").value_or(""));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string id;
    std::string parent;
    std::string device_number;
    words >> id >> parent >> device_number;
    if (device_number == number) {
      return true;
    }
  }
  return false;
}

// A file system outlives its last mount for a moment, and a container in the making has copies of
// all mounts. Exclusive opening is refused until it has let the device go.
void AwaitRelease(const std::string& device) {
  Poll(kReleaseTimeout, [&] {
    const auto opened = sys::Open(device, O_RDONLY | O_EXCL);
    return opened || opened.error().errnum() != EBUSY;
  });
}

}  // namespace

Result<std::string> FindBlockDevice(const std::string& sys_block, const std::string& serial) {
  for (const std::string& name : TRY(sys::ListDirectory(sys_block))) {
    // virtio-blk and NVMe.
    for (const char* file : {"serial", "device/serial"}) {
      std::string text = sys::ReadFile(fmt::format("{}/{}/{}", sys_block, name, file)).value_or("");
      text.erase(text.find_last_not_of(std::string_view(" \n\0", 3)) + 1);
      if (text == serial) {
        return name;
      }
    }
  }
  return MakeError(ErrorCode::kNotFound, "no block device has the serial \"{}\"", serial);
}

Result<DriveMounts> DriveMounts::Create(const std::vector<Drive>& drives, milliseconds timeout) {
  DriveMounts out;
  for (const Drive& drive : drives) {
    TRY_AS(out.Mount(drive, timeout), "drive \"{}\"", drive.serial);
  }
  return out;
}

DriveMounts& DriveMounts::operator=(DriveMounts&& other) noexcept {
  Unmount();
  mounted_ = std::exchange(other.mounted_, {});
  return *this;
}

Status DriveMounts::Mount(const Drive& drive, milliseconds timeout) {
  if (drive.serial.empty() || drive.filesystem.empty()) {
    return MakeError(ErrorCode::kInvalidArgument, "serial or filesystem: missing");
  }
  if (!drive.mount_point.starts_with('/')) {
    return MakeError(ErrorCode::kInvalidArgument, "mount_point \"{}\": must be absolute",
                     drive.mount_point);
  }
  const oci::MountOptions options = TRY(ParseOptions(drive));
  const std::string device = TRY(AwaitDevice(drive.serial, timeout));
  const bool made = !sys::Exists(drive.mount_point);
  TRY(sys::MkdirAll(drive.mount_point));
  // It may lie in a file system that another drive brought: no link of that is followed.
  const UniqueFd place =
      TRY(sys::OpenAt2(AT_FDCWD, drive.mount_point, O_PATH | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS));
  TRY(sys::Mount(device, FdPath(place.get()), drive.filesystem, options.flags, options.data));
  mounted_.push_back({device, drive.mount_point, made});
  return {};
}

void DriveMounts::Unmount() {
  while (!mounted_.empty()) {
    const Entry entry = std::move(mounted_.back());
    mounted_.pop_back();
    // What is written must be on the disk even if somebody keeps the file system.
    if (const auto folder = sys::Open(entry.mount_point, O_RDONLY | O_DIRECTORY)) {
      ::syncfs(folder->get());
    }
    static_cast<void>(sys::Unmount(entry.mount_point, MNT_DETACH | UMOUNT_NOFOLLOW));
    if (!MountedElsewhere(entry.device)) {
      AwaitRelease(entry.device);
    }
    if (entry.made_folder) {
      static_cast<void>(sys::Rmdir(entry.mount_point));
    }
  }
}

}  // namespace bulkhead::agent
