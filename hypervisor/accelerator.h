// Can this host run guests with KVM? Looked at, not assumed: see design.md, 2 (7).
#pragma once

#include <string>
#include <string_view>

#include "base/log.h"
#include "base/result.h"
#include "hypervisor/vm_config.h"

namespace bulkhead::hypervisor {

// Where the probe looks; tests put other files there.
struct ProbeRoots {
  std::string dev = "/dev/kvm";
  std::string cpuinfo = "/proc/cpuinfo";
  std::string modules = "/sys/module";
};

struct AcceleratorProbe {
  bool usable = false;
  bool device_opens = false;  // enough for somebody who asks for KVM by name
  std::string explanation;    // one line for people
};

AcceleratorProbe ProbeKvm(const ProbeRoots& roots = {});

// `choice` is "auto", "kvm" or "tcg". What is slower than the user may expect is logged once.
Result<Accelerator> ChooseAccelerator(std::string_view choice, const AcceleratorProbe& probe,
                                      Logger& logger);

// True when guests can have vsock: /dev/vhost-vsock opens.
bool HostHasVsock();

}  // namespace bulkhead::hypervisor
