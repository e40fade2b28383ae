#include "shim/sandbox_vm.h"

#include <poll.h>
#include <sys/random.h>

#include <array>
#include <utility>

#include "base/sys.h"
#include "hypervisor/accelerator.h"
#include "shim/storage.h"

namespace bulkhead::shim {
namespace {

using hypervisor::Accelerator;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr size_t kEntropyBytes = 64;

Result<hypervisor::VmConfig> MakeVmConfig(const Config& config, const SandboxRequest& request,
                                          Accelerator accelerator) {
  hypervisor::VmConfig vm;
  vm.name = request.name;
  vm.qemu = config.qemu;
  vm.firmware = config.firmware;
  vm.kernel = config.kernel;
  vm.initrd = config.image;
  vm.kernel_parameters = config.kernel_parameters;
  vm.accelerator = accelerator;
  vm.vcpus = request.vcpus;
  vm.memory_bytes = request.memory_bytes;
  vm.hotplug_slots = request.hotplug_slots;
  vm.runtime_dir = request.runtime_dir;
  const bool vsock =
      config.channel == "vsock" || (config.channel == "auto" && hypervisor::HostHasVsock());
  vm.channel = vsock ? hypervisor::AgentChannel::kVsock : hypervisor::AgentChannel::kVirtioSerial;
  vm.virtiofsd = FindVirtiofsd(config);
  if (config.transport == "virtiofs" && vm.virtiofsd.empty()) {
    return MakeError(ErrorCode::kNotFound,
                     "sharing.transport is \"virtiofs\" and no virtiofsd was found");
  }
  vm.shares.push_back({kShareTag, request.shared_path,
                       vm.virtiofsd.empty() ? hypervisor::ShareConfig::Transport::kNineP
                                            : hypervisor::ShareConfig::Transport::kVirtioFs});
  return vm;
}

pb::ConfigureSandboxRequest Greeting(const SandboxRequest& request,
                                     const hypervisor::VmConfig& vm) {
  pb::ConfigureSandboxRequest greeting;
  greeting.set_hostname(request.hostname);
  greeting.set_wall_clock_ns(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                 std::chrono::system_clock::now().time_since_epoch())
                                 .count());
  std::array<char, kEntropyBytes> entropy{};
  if (::getrandom(entropy.data(), entropy.size(), 0) == static_cast<ssize_t>(entropy.size())) {
    greeting.set_entropy(entropy.data(), entropy.size());
  }
  for (const auto& share : vm.shares) {
    pb::Share& entry = *greeting.add_shares();
    entry.set_transport(share.transport == hypervisor::ShareConfig::Transport::kNineP
                            ? pb::Share::NINE_P
                            : pb::Share::VIRTIO_FS);
    entry.set_tag(share.tag);
    entry.set_mount_point(kGuestShare);
  }
  return greeting;
}

Result<Sandbox> Boot(hypervisor::Hypervisor& driver, const hypervisor::VmConfig& vm_config,
                     const SandboxRequest& request, milliseconds patience,
                     const hypervisor::HypervisorContext& context) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  Sandbox sandbox;
  sandbox.config = vm_config;
  std::vector<hypervisor::NicConfig> nics;
  if (request.nics) {
    nics = TRY(request.nics());
  }
  sandbox.vm = TRY(driver.Start(vm_config, std::move(nics)));
  auto socket = sandbox.vm->ConnectAgent(deadline);
  if (!socket) {
    return tl::unexpected(ExplainByVm(*sandbox.vm, std::move(socket).error()));
  }
  sandbox.agent = std::make_shared<AgentClient>(std::move(*socket));
  const auto left = std::chrono::ceil<milliseconds>(deadline - std::chrono::steady_clock::now());
  const auto answer = sandbox.agent->ConfigureSandbox(Greeting(request, vm_config), left);
  if (!answer) {
    if (answer.error().code() == ErrorCode::kDeadlineExceeded && !sandbox.vm->Exit()) {
      return MakeError(ErrorCode::kDeadlineExceeded, "the guest did not answer within {} s{}{}",
                       std::chrono::ceil<seconds>(patience).count(),
                       sandbox.vm->ConsoleTail().empty() ? "" : "; its console ends with: ",
                       sandbox.vm->ConsoleTail());
    }
    return tl::unexpected(ExplainByVm(*sandbox.vm, answer.error()));
  }
  context.timeline.Mark(
      fmt::format("guest ready (kernel {}: agent began {} ms after the kernel, "
                  "served at {} ms)",
                  answer->kernel_release(), answer->boot_to_agent_us() / 1000,
                  answer->boot_to_ready_us() / 1000));
  return sandbox;
}

}  // namespace

Error ExplainByVm(hypervisor::Vm& vm, Error error) {
  // The connection may break a moment before the process is gone.
  (void)sys::PollOne(
      vm.exit_fd(), POLLIN,
      error.code() == ErrorCode::kDeadlineExceeded ? milliseconds(0) : milliseconds(1000));
  if (const auto exit = vm.Exit()) {
    return {ErrorCode::kUnavailable, fmt::format("the virtual machine ended: {}", exit->reason)};
  }
  return error;
}

Result<Sandbox> StartSandbox(const Config& config, const SandboxRequest& request,
                             const hypervisor::HypervisorContext& context, bool verbose_console) {
  const Accelerator accelerator =
      TRY(hypervisor::ChooseAccelerator(config.accel, hypervisor::ProbeKvm(), context.logger));
  const auto driver = TRY(hypervisor::MakeHypervisor(config.driver, context));
  hypervisor::VmConfig vm = TRY(MakeVmConfig(config, request, accelerator));
  vm.verbose_console = verbose_console;
  const milliseconds patience = seconds(config.boot_timeout_s);
  if (accelerator == Accelerator::kTcg || config.accel == "kvm") {
    return Boot(*driver, vm, request, patience, context);
  }
  const milliseconds watchdog = std::min<milliseconds>(patience, seconds(config.kvm_watchdog_s));
  auto sandbox = Boot(*driver, vm, request, watchdog, context);
  if (sandbox || sandbox.error().code() != ErrorCode::kDeadlineExceeded) {
    return sandbox;
  }
  context.logger.Warning(
      fmt::format("KVM is there, but {}: trying once more without it (TCG, much slower)",
                  sandbox.error().message()));
  vm.accelerator = Accelerator::kTcg;
  return Boot(*driver, vm, request, patience, context);
}

}  // namespace bulkhead::shim
