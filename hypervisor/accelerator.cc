#include "hypervisor/accelerator.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <sstream>

#include "base/sys.h"

namespace bulkhead::hypervisor {
namespace {

AcceleratorProbe NotOpened(const std::string& device, const Error& error) {
  std::string hint;
  if (error.errnum() == ENOENT || error.errnum() == ENXIO || error.errnum() == ENODEV) {
    hint = " (load kvm_intel or kvm_amd; inside a VM, its host must allow nested virtualization)";
  } else if (error.errnum() == EACCES || error.errnum() == EPERM) {
    hint = " (be root or in the group kvm)";
  }
  const std::string text = Error::FromErrno(error.errnum(), device).message();
  return {false, false, "KVM cannot be used: " + text + hint};
}

// "vmx", "svm" or "" after the flags of the first CPU.
std::string VirtualizationFlag(const std::string& cpuinfo) {
  std::istringstream lines(cpuinfo);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("flags")) {
      continue;
    }
    std::istringstream words(line);
    for (std::string word; words >> word;) {
      if (word == "vmx" || word == "svm") {
        return word;
      }
    }
    break;
  }
  return "";
}

}  // namespace

AcceleratorProbe ProbeKvm(const ProbeRoots& roots) {
  const auto device = sys::Open(roots.dev, O_RDWR);
  if (!device) {
    return NotOpened(roots.dev, device.error());
  }
  const std::string flag =
      VirtualizationFlag(sys::ReadFile(roots.cpuinfo, 64U << 20U).value_or(""));
  const auto loaded = [&](const char* name) { return sys::Exists(roots.modules + "/" + name); };
  const bool pvm = loaded("kvm_pvm") && !loaded("kvm_intel") && !loaded("kvm_amd");
  if (flag.empty()) {
    return {
        false, true,
        fmt::format("{} opens, but the CPU shows neither vmx nor svm{}: an ordinary guest would "
                    "hang",
                    roots.dev, pvm ? " (kvm_pvm)" : "")};
  }
  if (pvm) {
    return {
        false, true,
        fmt::format("{} opens, but belongs to kvm_pvm, not to kvm_intel or kvm_amd: an ordinary "
                    "guest would hang",
                    roots.dev)};
  }
  const int version = ::ioctl(device->get(), KVM_GET_API_VERSION, 0);
  if (version != KVM_API_VERSION) {
    return {false, true,
            fmt::format("{} does not speak KVM's API version {}", roots.dev, KVM_API_VERSION)};
  }
  return {true, true, fmt::format("KVM can be used ({})", flag)};
}

Result<Accelerator> ChooseAccelerator(std::string_view choice, const AcceleratorProbe& probe,
                                      Logger& logger) {
  if (choice == "tcg") {
    return Accelerator::kTcg;
  }
  if (choice == "auto") {
    if (probe.usable) {
      return Accelerator::kKvm;
    }
    logger.Warning("guests are emulated (TCG), many times slower than with KVM: " +
                   probe.explanation);
    return Accelerator::kTcg;
  }
  if (choice != "kvm") {
    return MakeError(ErrorCode::kInvalidArgument, "accelerator \"{}\": not auto, kvm or tcg",
                     choice);
  }
  if (!probe.device_opens) {
    return MakeError(ErrorCode::kFailedPrecondition, "accelerator kvm: {}", probe.explanation);
  }
  if (!probe.usable) {
    logger.Warning("KVM is used because it was asked for: " + probe.explanation);
  }
  return Accelerator::kKvm;
}

bool HostHasVsock() { return sys::Open("/dev/vhost-vsock", O_RDWR).has_value(); }

}  // namespace bulkhead::hypervisor
