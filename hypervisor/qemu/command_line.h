// A VM's configuration as QEMU's arguments. Pure: everything that has to be opened comes as a
// number of a descriptor that QEMU inherits.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "hypervisor/vm_config.h"

namespace bulkhead::hypervisor::qemu {

inline constexpr uint32_t kAgentVsockPort = 1024;

// Numbers in the QEMU process.
struct QemuFds {
  int qmp = -1;
  int console = -1;
  int kernel = -1;
  int initrd = -1;
  int agent = -1;           // AgentChannel::kVirtioSerial: one end of a socket pair
  int vsock = -1;           // AgentChannel::kVsock: /dev/vhost-vsock with the CID set
  std::vector<int> shares;  // one for each share: a socket to virtiofsd; -1 for 9p
  struct Nic {              // as nics.h has it, for the place in the list
    std::string netdev;
    std::string device;
  };
  std::vector<Nic> nics;
};

struct GuestFacts {
  uint32_t cid = 0;      // AgentChannel::kVsock
  uint32_t tsc_khz = 0;  // of the host's time stamp counter; 0: unknown
};

// With argv[0], QEMU's path.
std::vector<std::string> QemuArguments(const VmConfig& config, const QemuFds& fds,
                                       const GuestFacts& facts);

std::string KernelCommandLine(const VmConfig& config, const GuestFacts& facts);

// Plug places are devices of PCI bridges, whose changes the guest learns of through ACPI. Measured
// under TCG: a place costs 0.6 ms of the boot, a PCI Express root port 4 to 7.
inline constexpr uint32_t kSlotsPerBridge = 31;
inline constexpr uint32_t kMaxBridges = 8;
uint32_t PlugBridges(const VmConfig& config);
// The name of a device there, and of what is behind it.
std::string DeviceName(uint64_t number);
// The place as members of device_add's arguments: "bus" and "addr".
std::string PlugPlace(uint32_t slot);

// Memory that the VM gets: QEMU wants whole MiB.
uint64_t MemoryMib(const VmConfig& config);

}  // namespace bulkhead::hypervisor::qemu
