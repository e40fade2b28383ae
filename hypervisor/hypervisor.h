// What the rest of Bulkhead knows of virtual machines: an interface that QEMU and libvirt implement
// behind MakeHypervisor(). Knows nothing of containers.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "base/spawn_thread.h"
#include "base/unique_fd.h"
#include "hypervisor/drive.h"
#include "hypervisor/nic.h"
#include "hypervisor/vm_config.h"

namespace bulkhead::hypervisor {

// Why a VM is gone.
struct VmExit {
  // One readable line, the guest's panic message first if there was one:
  // "the guest kernel panicked: ...", "QEMU was killed by signal 9", "the guest powered off".
  std::string reason;
  bool orderly = false;  // the guest powered itself off
};

// A running VM. The destructor ends it and gives back all it held. Thread-safe.
class Vm {
 public:
  virtual ~Vm() = default;

  // The fd of a stream socket to the agent in the guest. For vsock it retries until the guest
  // listens; with virtio-serial it is there at once. Fails early when the VM dies meanwhile, with
  // its exit reason as the error (kUnavailable), or kDeadlineExceeded.
  virtual Result<UniqueFd> ConnectAgent(std::chrono::steady_clock::time_point deadline) = 0;

  // Plugs a drive into the running VM. Not before the agent has answered: a device that comes while
  // the guest's kernel lays out its buses can make the places round it useless for good. Returns
  // when the device is there: the guest sees it a little later. The file is the VM's from then on.
  // kAlreadyExists: the serial is taken; kResourceExhausted: so are all hotplug_slots;
  // kUnavailable: the VM is gone, with its exit reason. Every error names the serial.
  virtual Status AttachDrive(DriveConfig drive) = 0;
  // Takes a drive out; the guest should have unmounted it. kDeadlineExceeded when the guest does
  // not let go of it: then the drive stays, and may be detached again.
  virtual Status DetachDrive(const std::string& serial) = 0;

  // The same of a network interface: same places, same errors, which name the id.
  virtual Status AttachNic(NicConfig nic) = 0;
  virtual Status DetachNic(const std::string& id) = 0;

  virtual int exit_fd() const = 0;           // readable once the VM is gone
  virtual std::optional<VmExit> Exit() = 0;  // nullopt while it runs
  virtual void Kill() = 0;                   // ends it now; Exit() has the answer soon after

  virtual pid_t pid() const = 0;                // of the VM process
  virtual std::string ConsoleTail() const = 0;  // the last 64 KiB of the guest's console, printable
};

class Hypervisor {
 public:
  virtual ~Hypervisor() = default;
  // Starts a VM of this configuration and returns as soon as the VM process runs: the guest boots
  // meanwhile. Errors name what is missing (binary, kernel, image, memory) and hold QEMU's own
  // words. `nics` are there from the guest's first breath, and may be detached as those that are
  // attached later: each takes one of hotplug_slots.
  virtual Result<std::unique_ptr<Vm>> Start(const VmConfig& config,
                                            std::vector<NicConfig> nics) = 0;
};

// `spawner`, `logger` and `timeline` must outlive the hypervisor and its VMs.
struct HypervisorContext {
  SpawnThread& spawner;
  Logger& logger;
  Timeline& timeline;
};

Result<std::unique_ptr<Hypervisor>> MakeHypervisor(const std::string& driver,
                                                   const HypervisorContext& context);

}  // namespace bulkhead::hypervisor
