// A VM's configuration as a value: it can be compared, logged and stored.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace bulkhead::hypervisor {

enum class Accelerator { kKvm, kTcg };
enum class AgentChannel { kVsock, kVirtioSerial };

// A folder of the host that the guest may mount by `tag`.
struct ShareConfig {
  enum class Transport { kVirtioFs, kNineP };
  std::string tag;
  std::string path;  // on the host, in the mount namespace of the process that starts the VM
  Transport transport = Transport::kVirtioFs;
  bool operator==(const ShareConfig&) const = default;
};

struct VmConfig {
  std::string name;               // for process lists and logs
  std::string qemu;               // path of qemu-system-x86_64
  std::string virtiofsd;          // path; empty when no share uses it
  std::string firmware;           // path or name of qboot.rom, as QEMU's -bios takes it
  std::string kernel;             // path of vmlinux with a PVH entry
  std::string initrd;             // path of the guest image
  std::string kernel_parameters;  // appended to the driver's own
  Accelerator accelerator = Accelerator::kKvm;
  AgentChannel channel = AgentChannel::kVirtioSerial;
  uint32_t vcpus = 1;
  uint64_t memory_bytes = 0;
  std::vector<ShareConfig> shares;
  // How many devices may be plugged into the running VM. Rounded up to whole PCI bridges; each
  // begun 31 make the boot 15 to 20 ms longer under TCG.
  uint32_t hotplug_slots = 0;
  std::string runtime_dir;       // an existing private folder for short-lived sockets
  bool verbose_console = false;  // no `quiet` for the guest kernel
  bool operator==(const VmConfig&) const = default;
};

}  // namespace bulkhead::hypervisor
