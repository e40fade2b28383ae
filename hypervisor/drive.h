// A block device that is plugged into a running VM.
#pragma once

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead::hypervisor {

struct DriveConfig {
  // How the guest finds it: /sys/block/*/serial. 1 to 20 of [A-Za-z0-9._-], unique in the VM.
  std::string serial;
  // A block device or a regular file of raw content, open for reading alone or for both, as
  // `read_only` says.
  UniqueFd file;
  bool read_only = false;
  // What is on it ends with the VM: no flush of the guest's reaches the host's disk.
  bool ephemeral = false;
};

enum class DriveKind { kBlockDevice, kRegularFile };

// What the drive's file is, or why it cannot be one.
Result<DriveKind> CheckDrive(const DriveConfig& drive);

}  // namespace bulkhead::hypervisor
