// A rootfs that an engine hands over as a block device or an image file: plugged into the VM and
// mounted by the guest, rather than mounted here and shared.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "hypervisor/hypervisor.h"
#include "shim/agent_client.h"
#include "shim/storage.h"

namespace bulkhead::shim {

// True for one mount of a file system that the guest knows, from a block device or a regular file.
bool IsRootDrive(const std::vector<RootfsMount>& rootfs);

class RootDrive {
 public:
  // Plugs it in. `serial` is unique in the VM (at most 20 characters).
  static Result<RootDrive> Attach(std::shared_ptr<hypervisor::Vm> vm, const RootfsMount& mount,
                                  const std::string& serial);
  RootDrive(RootDrive&&) noexcept = default;
  RootDrive& operator=(RootDrive&&) noexcept = default;
  ~RootDrive();  // takes it out; the guest has unmounted it by then

  // For the agent: what to mount where.
  const pb::Drive& description() const { return description_; }

 private:
  RootDrive(std::shared_ptr<hypervisor::Vm> vm, pb::Drive description)
      : vm_(std::move(vm)), description_(std::move(description)) {}

  std::shared_ptr<hypervisor::Vm> vm_;  // null: moved from
  pb::Drive description_;
};

}  // namespace bulkhead::shim
