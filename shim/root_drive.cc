#include "shim/root_drive.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "base/sys.h"

namespace bulkhead::shim {
namespace {

constexpr std::array<std::string_view, 6> kFilesystems{"ext2", "ext3",  "ext4",
                                                       "xfs",  "erofs", "squashfs"};
constexpr char kGuestDrives[] = "/run/bulkhead/drives/";

bool IsReadOnly(const RootfsMount& mount) {
  const auto& options = mount.options;
  return mount.type == "erofs" || mount.type == "squashfs" ||
         std::find(options.begin(), options.end(), "ro") != options.end();
}

}  // namespace

std::span<const std::string_view> DriveFilesystems() { return kFilesystems; }

bool IsRootDrive(const std::vector<RootfsMount>& rootfs) {
  if (rootfs.size() != 1 ||
      std::find(kFilesystems.begin(), kFilesystems.end(), rootfs[0].type) == kFilesystems.end()) {
    return false;
  }
  const auto info = sys::Stat(rootfs[0].source);
  return info && (S_ISBLK(info->st_mode) || S_ISREG(info->st_mode));
}

Result<RootDrive> RootDrive::Attach(std::shared_ptr<hypervisor::Vm> vm, const RootfsMount& mount,
                                    const std::string& serial) {
  std::vector<std::string> options = mount.options;
  if (TRY_AS(TakeIdMaps(options), "rootfs")) {
    return MakeError(
        ErrorCode::kUnimplemented,
        "rootfs: {}: options \"uidmap=\" and \"gidmap=\": a file system that the guest "
        "mounts cannot be id-mapped",
        mount.source);
  }
  hypervisor::DriveConfig config;
  config.serial = serial;
  config.read_only = IsReadOnly(mount);
  config.file = TRY_AS(sys::Open(mount.source, config.read_only ? O_RDONLY : O_RDWR), "rootfs");
  TRY_AS(vm->AttachDrive(std::move(config)), "rootfs: {}", mount.source);
  pb::Drive drive;
  drive.set_serial(serial);
  drive.set_filesystem(mount.type);
  for (const std::string& option : options) {
    if (!option.starts_with("loop")) {  // how a host would mount a file
      drive.add_options(option);
    }
  }
  drive.set_mount_point(kGuestDrives + serial);
  return RootDrive(std::move(vm), std::move(drive), mount.source);
}

Result<RootDrive> RootDrive::AttachUpper(std::shared_ptr<hypervisor::Vm> vm, UniqueFd image,
                                         const std::string& serial) {
  TRY(vm->AttachDrive({serial, std::move(image), false, true}));
  pb::Drive drive;
  drive.set_serial(serial);
  drive.set_filesystem("ext4");
  // What is deleted goes back to the host at once. The tables of inodes are holes, that is zero.
  for (const char* option : {"discard", "noinit_itable"}) {
    drive.add_options(option);
  }
  drive.set_mount_point(kGuestDrives + serial);
  return RootDrive(std::move(vm), std::move(drive), "the writable layer");
}

Error RootDrive::Explain(Error error) const {
  if (error.message().find(description_.serial()) == std::string::npos) {
    return error;
  }
  return std::move(error).Wrap(fmt::format("rootfs: {} as {}", source_, description_.filesystem()));
}

RootDrive::~RootDrive() {
  if (vm_) {
    (void)vm_->DetachDrive(description_.serial());
  }
}

}  // namespace bulkhead::shim
