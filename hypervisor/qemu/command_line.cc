#include "hypervisor/qemu/command_line.h"

#include <fmt/core.h>

namespace bulkhead::hypervisor::qemu {
namespace {

// A value among QEMU's comma-separated options: a comma in it is doubled.
std::string Escape(const std::string& value) {
  std::string escaped;
  for (const char c : value) {
    escaped += c;
    if (c == ',') {
      escaped += c;
    }
  }
  return escaped;
}

// A file that is open already: QEMU's loader opens names, and this one names the descriptor.
std::string FdPath(int fd) { return fmt::format("/proc/self/fd/{}", fd); }

// Arguments in the order in which they are added.
class Arguments {
 public:
  explicit Arguments(std::string program) { list_.push_back(std::move(program)); }
  void Add(std::string option) { list_.push_back(std::move(option)); }
  void Add(std::string option, std::string value) {
    list_.push_back(std::move(option));
    list_.push_back(std::move(value));
  }
  std::vector<std::string> Take() { return std::move(list_); }

 private:
  std::vector<std::string> list_;
};

void AddMachine(Arguments& arguments, const VmConfig& config) {
  const bool kvm = config.accelerator == Accelerator::kKvm;
  arguments.Add("-machine", fmt::format("q35{},hpet=off,smbus=off,sata=off,vmport=off,"
                                        "usb=off,memory-backend=mem{}",
                                        kvm ? ",accel=kvm" : "", kvm ? ",kernel-irqchip=on" : ""));
  if (!kvm) {
    // Translated code may fill as many MiB; the default lets it grow to 1 GiB, guest by guest.
    arguments.Add("-accel", "tcg,tb-size=256");
  }
  // erms, fsrm: the kernel would copy by `rep movsb`, which TCG does byte by byte.
  arguments.Add("-cpu", kvm ? "host" : "max,-erms,-fsrm");
  arguments.Add("-smp", fmt::format("cpus={}", config.vcpus));
  arguments.Add("-m", fmt::format("{}M", MemoryMib(config)));
  // Shared, because virtiofsd writes into it.
  arguments.Add("-object",
                fmt::format("memory-backend-memfd,id=mem,size={}M,share=on", MemoryMib(config)));
  arguments.Add("-bios", config.firmware);
}

void AddIsolation(Arguments& arguments) {
  arguments.Add("-nodefaults");
  arguments.Add("-no-user-config");
  arguments.Add("-display", "none");
  arguments.Add("-no-reboot");
  arguments.Add("-sandbox",
                "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
  arguments.Add("-rtc", "base=utc");
}

void AddChannels(Arguments& arguments, const VmConfig& config, const QemuFds& fds,
                 const GuestFacts& facts) {
  arguments.Add("-chardev", fmt::format("socket,id=qmp,fd={}", fds.qmp));
  arguments.Add("-mon", "chardev=qmp,mode=control");
  arguments.Add("-chardev", fmt::format("socket,id=console,fd={}", fds.console));
  arguments.Add("-device", "isa-serial,chardev=console");
  if (config.channel == AgentChannel::kVsock) {
    arguments.Add("-device",
                  fmt::format("vhost-vsock-pci,guest-cid={},vhostfd={}", facts.cid, fds.vsock));
    return;
  }
  arguments.Add("-device", "virtio-serial-pci,max_ports=2");
  arguments.Add("-chardev", fmt::format("socket,id=agent,fd={}", fds.agent));
  arguments.Add("-device", "virtserialport,chardev=agent,name=agent");
}

void AddShares(Arguments& arguments, const VmConfig& config, const QemuFds& fds) {
  for (size_t i = 0; i < config.shares.size(); ++i) {
    const ShareConfig& share = config.shares[i];
    const std::string tag = Escape(share.tag);
    if (share.transport == ShareConfig::Transport::kVirtioFs) {
      arguments.Add("-chardev", fmt::format("socket,id=fs{},fd={}", i, fds.shares[i]));
      arguments.Add("-device", fmt::format("vhost-user-fs-pci,chardev=fs{},tag={}", i, tag));
    } else {
      arguments.Add("-fsdev",
                    fmt::format("local,id=fs{},security_model=none,multidevs=remap,path={}", i,
                                Escape(share.path)));
      arguments.Add("-device", fmt::format("virtio-9p-pci,fsdev=fs{},mount_tag={}", i, tag));
    }
  }
}

void AddPlugPlaces(Arguments& arguments, const VmConfig& config) {
  for (uint32_t i = 0; i < PlugBridges(config); ++i) {
    arguments.Add("-device", fmt::format("pci-bridge,id=plug{},chassis_nr={},shpc=off", i, i + 1));
    // Inert. The guest's kernel gives an empty bridge no memory, and takes what is plugged into it
    // later for broken.
    arguments.Add("-device",
                  fmt::format("pvpanic-pci,events=0,bus=plug{},addr={:#x}", i, kSlotsPerBridge));
  }
}

void AddNics(Arguments& arguments, const QemuFds& fds) {
  for (const QemuFds::Nic& nic : fds.nics) {
    arguments.Add("-netdev", nic.netdev);
    arguments.Add("-device", nic.device);
  }
}

}  // namespace

std::string DeviceName(uint64_t number) { return fmt::format("d{}", number); }

uint32_t PlugBridges(const VmConfig& config) {
  return config.hotplug_slots / kSlotsPerBridge +
         (config.hotplug_slots % kSlotsPerBridge != 0 ? 1 : 0);
}

std::string PlugPlace(uint32_t slot) {
  return fmt::format(R"("bus":"plug{}","addr":"{:#x}")", slot / kSlotsPerBridge,
                     slot % kSlotsPerBridge);
}

uint64_t MemoryMib(const VmConfig& config) {
  return (config.memory_bytes >> 20U) + ((config.memory_bytes & 0xfffffU) != 0 ? 1 : 0);
}

std::vector<std::string> QemuArguments(const VmConfig& config, const QemuFds& fds,
                                       const GuestFacts& facts) {
  Arguments arguments(config.qemu);
  const std::string name = Escape(config.name);
  arguments.Add("-name", fmt::format("{},process={}", name, name));
  AddMachine(arguments, config);
  AddIsolation(arguments);
  AddChannels(arguments, config, fds, facts);
  arguments.Add("-object", "rng-random,id=rng,filename=/dev/urandom");
  arguments.Add("-device", "virtio-rng-pci,rng=rng");
  // vmgenid's address is handed over by the firmware, and qboot does not know how.
  if (config.firmware.find("qboot") == std::string::npos) {
    arguments.Add("-device", "vmgenid,guid=auto");
  }
  AddShares(arguments, config, fds);
  AddPlugPlaces(arguments, config);
  AddNics(arguments, fds);
  arguments.Add("-kernel", FdPath(fds.kernel));
  arguments.Add("-initrd", FdPath(fds.initrd));
  arguments.Add("-append", KernelCommandLine(config, facts));
  return arguments.Take();
}

std::string KernelCommandLine(const VmConfig& config, const GuestFacts& facts) {
  std::string line = "console=ttyS0";
  line += config.verbose_console ? "" : " quiet";
  line += " no_timer_check reboot=t panic=-1";
  // No network devices but those that somebody makes.
  line += " fb_tunnels=none dummy.numdummies=0 ifb.numifbs=0";
  // No bounce buffers: no device of ours is limited to 32 bits. They would take 64 MiB of the host
  // from each guest with memory above 4 GiB, and 180 ms of its boot under TCG.
  line += " swiotlb=noforce";
  // Under TCG the guest reads the host's counter, and measuring its rate costs 100 ms and more.
  // Under KVM the clock of the hypervisor tells it.
  if (config.accelerator == Accelerator::kTcg) {
    line += " tsc=reliable lapic_khz=1000000";  // QEMU's local APIC timer; a patch of ours
    line += facts.tsc_khz == 0 ? "" : fmt::format(" tsc_early_khz={}", facts.tsc_khz);
    line += config.vcpus == 1 ? " noreplace-smp" : "";
  }
  line += config.channel == AgentChannel::kVsock
              ? fmt::format(" bulkhead.channel=vsock:{}", kAgentVsockPort)
              : " bulkhead.channel=serial:agent";
  if (!config.kernel_parameters.empty()) {
    line += " " + config.kernel_parameters;
  }
  return line;
}

}  // namespace bulkhead::hypervisor::qemu
