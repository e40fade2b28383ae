// Starts VMs as QEMU processes.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "hypervisor/hypervisor.h"
#include "hypervisor/qemu/virtiofsd.h"

namespace bulkhead::hypervisor::qemu {

class QemuHypervisor final : public Hypervisor {
 public:
  explicit QemuHypervisor(const HypervisorContext& context) : context_(context) {}
  Result<std::unique_ptr<Vm>> Start(const VmConfig& config, std::vector<NicConfig> nics) override;

 private:
  Result<std::vector<Virtiofsd>> StartDaemons(const VmConfig& config);
  Result<VirtiofsdFlavor> Flavor(const std::string& program);

  HypervisorContext context_;
  std::mutex mutex_;
  std::map<std::string, VirtiofsdFlavor> flavors_;  // by program
};

}  // namespace bulkhead::hypervisor::qemu
