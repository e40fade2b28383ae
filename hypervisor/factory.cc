// The only place that names the drivers.
#include "hypervisor/hypervisor.h"
#include "hypervisor/qemu/qemu_hypervisor.h"

namespace bulkhead::hypervisor {

Result<std::unique_ptr<Hypervisor>> MakeHypervisor(const std::string& driver,
                                                   const HypervisorContext& context) {
  if (driver == "qemu") {
    return std::make_unique<qemu::QemuHypervisor>(context);
  }
  if (driver == "libvirt") {
    return MakeError(ErrorCode::kUnimplemented,
                     "hypervisor driver \"libvirt\" is not there yet: use \"qemu\"");
  }
  return MakeError(ErrorCode::kInvalidArgument, "unknown hypervisor driver \"{}\": use \"qemu\"",
                   driver);
}

}  // namespace bulkhead::hypervisor
