#include "hypervisor/drive.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include <string_view>

#include "base/sys.h"

namespace bulkhead::hypervisor {
namespace {

constexpr size_t kMaxSerial = 20;  // VIRTIO_BLK_ID_BYTES

Status CheckSerial(const std::string& serial) {
  constexpr std::string_view kAllowed =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
  if (serial.empty() || serial.size() > kMaxSerial ||
      serial.find_first_not_of(kAllowed) != std::string::npos) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "drive \"{}\": a serial has 1 to {} letters, digits, dots, dashes or "
                     "underscores",
                     serial, kMaxSerial);
  }
  return {};
}

Status CheckAccess(const DriveConfig& drive) {
  const int flags = ::fcntl(drive.file.get(), F_GETFL);
  TRY(sys::CheckCall(flags, "F_GETFL"));
  if ((flags & O_PATH) != 0 || (flags & O_ACCMODE) != (drive.read_only ? O_RDONLY : O_RDWR)) {
    return MakeError(
        ErrorCode::kInvalidArgument, "the file is not open for {}",
        drive.read_only ? "reading alone, as a read-only drive wants it" : "reading and writing");
  }
  return {};
}

Result<DriveKind> CheckFile(const DriveConfig& drive) {
  const struct stat info = TRY(sys::FStat(drive.file.get()));
  if (!S_ISREG(info.st_mode) && !S_ISBLK(info.st_mode)) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "the file is neither a block device nor a regular file");
  }
  TRY(CheckAccess(drive));
  uint64_t size = static_cast<uint64_t>(info.st_size);
  if (S_ISBLK(info.st_mode)) {
    TRY(sys::CheckCall(::ioctl(drive.file.get(), BLKGETSIZE64, &size), "BLKGETSIZE64"));
  }
  if (size == 0) {
    return MakeError(ErrorCode::kInvalidArgument, "the file is empty");
  }
  return S_ISBLK(info.st_mode) ? DriveKind::kBlockDevice : DriveKind::kRegularFile;
}

}  // namespace

Result<DriveKind> CheckDrive(const DriveConfig& drive) {
  TRY(CheckSerial(drive.serial));
  return TRY_AS(CheckFile(drive), "drive {}", drive.serial);
}

}  // namespace bulkhead::hypervisor
