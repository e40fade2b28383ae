// The pod's VM from nothing to an agent that answers: the choice of accelerator, channel and share,
// the wait for the guest, and one retry under TCG when KVM proves not to work.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "hypervisor/hypervisor.h"
#include "shim/agent_client.h"
#include "shim/config.h"

namespace bulkhead::shim {

struct SandboxRequest {
  std::string name;
  std::string hostname;
  uint32_t vcpus = 1;
  uint64_t memory_bytes = 0;
  uint32_t hotplug_slots = 0;
  std::string shared_path;  // the host's side of the share
  std::string runtime_dir;
  // Gives the interfaces to start with; asked again when the VM is started again.
  std::function<Result<std::vector<hypervisor::NicConfig>>()> nics;
};

struct Sandbox {
  std::shared_ptr<hypervisor::Vm> vm;
  std::shared_ptr<AgentClient> agent;
  hypervisor::VmConfig config;
};

Result<Sandbox> StartSandbox(const Config& config, const SandboxRequest& request,
                             const hypervisor::HypervisorContext& context, bool verbose_console);

// A call that failed because the VM is gone: the VM's own end says more. Waits up to a second for
// it.
Error ExplainByVm(hypervisor::Vm& vm, Error error);

}  // namespace bulkhead::shim
