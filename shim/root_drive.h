// A rootfs that an engine hands over as a block device or an image file, or the disk of a
// container's writable layer: plugged into the VM and mounted by the guest, rather than mounted
// here and shared.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "hypervisor/hypervisor.h"
#include "shim/agent_client.h"
#include "shim/storage.h"

namespace bulkhead::shim {

// The file systems that a drive may have: those that the guest knows.
std::span<const std::string_view> DriveFilesystems();

// True for one mount of such a file system, from a block device or a regular file.
bool IsRootDrive(const std::vector<RootfsMount>& rootfs);

class RootDrive {
 public:
  // Plugs it in. `serial` is unique in the VM (at most 20 characters).
  static Result<RootDrive> Attach(std::shared_ptr<hypervisor::Vm> vm, const RootfsMount& mount,
                                  const std::string& serial);
  // The same with an ext4 that nobody else will ever read.
  static Result<RootDrive> AttachUpper(std::shared_ptr<hypervisor::Vm> vm, UniqueFd image,
                                       const std::string& serial);
  RootDrive(RootDrive&&) noexcept = default;
  RootDrive& operator=(RootDrive&&) noexcept = default;
  ~RootDrive();  // takes it out; the guest has unmounted it by then

  // For the agent: what to mount where.
  const pb::Drive& description() const { return description_; }
  // The agent's error, which knows the drive by its serial alone, with what that is on the host.
  Error Explain(Error error) const;

 private:
  RootDrive(std::shared_ptr<hypervisor::Vm> vm, pb::Drive description, std::string source)
      : vm_(std::move(vm)), description_(std::move(description)), source_(std::move(source)) {}

  std::shared_ptr<hypervisor::Vm> vm_;  // null: moved from
  pb::Drive description_;
  std::string source_;
};

}  // namespace bulkhead::shim
