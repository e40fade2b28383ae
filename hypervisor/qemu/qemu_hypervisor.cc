#include "hypervisor/qemu/qemu_hypervisor.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <set>

#include "base/sys.h"
#include "hypervisor/host.h"
#include "hypervisor/qemu/command_line.h"
#include "hypervisor/qemu/nics.h"
#include "hypervisor/qemu/qemu_vm.h"
#include "hypervisor/qemu/vsock.h"

namespace bulkhead::hypervisor::qemu {
namespace {

Status CheckFile(const std::string& path, std::string_view what) {
  const auto info = sys::Stat(path);
  if (!info) {
    return MakeErrno(info.error().errnum(), "{} {}", what, path);
  }
  if (!S_ISREG(info->st_mode)) {
    return MakeError(ErrorCode::kInvalidArgument, "{} {}: not a regular file", what, path);
  }
  return {};
}

Result<UniqueFd> OpenFile(const std::string& path, std::string_view what) {
  TRY(CheckFile(path, what));
  auto fd = sys::Open(path, O_RDONLY);
  if (!fd) {
    return MakeErrno(fd.error().errnum(), "{} {}", what, path);
  }
  return fd;
}

Status CheckMemory(const VmConfig& config) {
  const uint64_t total = HostMemoryBytes();
  if (config.memory_bytes == 0) {
    return MakeError(ErrorCode::kInvalidArgument, "a VM needs memory: 0 bytes were asked for");
  }
  if (total != 0 && config.memory_bytes > total) {
    return MakeError(ErrorCode::kResourceExhausted,
                     "the VM wants {} MiB of memory, the host has {}", MemoryMib(config),
                     total >> 20U);
  }
  return {};
}

Status CheckShares(const VmConfig& config) {
  for (const ShareConfig& share : config.shares) {
    const auto info = sys::Stat(share.path);
    if (!info) {
      return MakeErrno(info.error().errnum(), "shared folder {}", share.path);
    }
    if (!S_ISDIR(info->st_mode)) {
      return MakeError(ErrorCode::kInvalidArgument, "shared folder {}: not a folder", share.path);
    }
    if (share.transport == ShareConfig::Transport::kVirtioFs) {
      TRY(CheckFile(config.virtiofsd, "virtiofsd"));
    }
  }
  return {};
}

Status Check(const VmConfig& config) {
  TRY(CheckFile(config.qemu, "QEMU"));
  // A bare name is looked up by QEMU in its own folders.
  if (config.firmware.find('/') != std::string::npos) {
    TRY(CheckFile(config.firmware, "firmware"));
  }
  TRY(CheckShares(config));
  if (PlugBridges(config) > kMaxBridges) {
    return MakeError(ErrorCode::kInvalidArgument, "hotplug_slots {}: at most {}",
                     config.hotplug_slots, kMaxBridges * kSlotsPerBridge);
  }
  return CheckMemory(config);
}

// Numbers the descriptors that QEMU inherits, and holds our copies until it runs.
class Inherited {
 public:
  int Add(UniqueFd fd) {
    owned_.push_back(std::move(fd));
    return Lend(owned_.back().get());
  }
  // Somebody else holds it until then.
  int Lend(int fd) {
    fds_.push_back({fd, next_});
    return next_++;
  }
  // As stdout and stderr.
  void AddOutput(UniqueFd fd) {
    fds_.push_back({fd.get(), 1});
    fds_.push_back({fd.get(), 2});
    output_ = std::move(fd);
  }
  const std::vector<ChildFd>& list() const { return fds_; }

 private:
  int next_ = 3;
  std::vector<ChildFd> fds_;
  std::vector<UniqueFd> owned_;
  UniqueFd output_;
};

// A socket pair: one end for QEMU, the other is put into `ours`.
Result<int> AddSocket(Inherited& inherited, UniqueFd& ours) {
  sys::SocketPair pair = TRY(sys::MakeSocketPair(SOCK_STREAM));
  ours = std::move(pair.first);
  return inherited.Add(std::move(pair.second));
}

Status CheckNics(const VmConfig& config, const std::vector<NicConfig>& nics) {
  const uint32_t slots = PlugBridges(config) * kSlotsPerBridge;
  if (nics.size() > slots) {
    return MakeError(ErrorCode::kResourceExhausted, "{} NICs: the VM has {} places", nics.size(),
                     slots);
  }
  std::set<std::string> ids;
  for (const NicConfig& nic : nics) {
    TRY(CheckNic(nic));
    if (!ids.insert(nic.id).second) {
      return MakeError(ErrorCode::kAlreadyExists, "NIC {}: the VM has one of this name", nic.id);
    }
  }
  return {};
}

// Of a NIC whose frames QEMU itself carries.
UniqueFd TakeCgroup(std::vector<NicConfig>& nics) {
  for (NicConfig& nic : nics) {
    if (auto* user = std::get_if<UserBackend>(&nic.backend)) {
      return std::move(user->cgroup);
    }
  }
  return UniqueFd();
}

std::vector<std::string> AddNics(Inherited& inherited, QemuFds& fds,
                                 const std::vector<NicConfig>& nics) {
  std::vector<std::string> ids;
  for (const NicConfig& nic : nics) {
    const auto number = static_cast<uint32_t>(ids.size());
    std::vector<std::string> numbers;
    for (const int fd : NicFds(nic)) {
      numbers.push_back(std::to_string(inherited.Lend(fd)));
    }
    fds.nics.push_back(
        {NicNetdev(nic, number, numbers), NicDevice(nic, number, PlugPlace(number))});
    ids.push_back(nic.id);
  }
  return ids;
}

}  // namespace

Result<VirtiofsdFlavor> QemuHypervisor::Flavor(const std::string& program) {
  const std::lock_guard lock(mutex_);
  auto known = flavors_.find(program);
  if (known == flavors_.end()) {
    const auto flavor = TRY(ProbeVirtiofsd(program, context_.spawner));
    known = flavors_.emplace(program, flavor).first;
  }
  return known->second;
}

Result<std::vector<Virtiofsd>> QemuHypervisor::StartDaemons(const VmConfig& config) {
  std::vector<Virtiofsd> daemons;
  for (const ShareConfig& share : config.shares) {
    if (share.transport != ShareConfig::Transport::kVirtioFs) {
      continue;
    }
    const auto flavor = TRY(Flavor(config.virtiofsd));
    const std::string socket = fmt::format("{}/fs{}.sock", config.runtime_dir, daemons.size());
    daemons.push_back(
        TRY_AS(Virtiofsd::Start(config.virtiofsd, flavor, share.path, socket, context_.spawner),
               "virtiofsd for {}", share.path));
  }
  if (!daemons.empty()) {
    context_.timeline.Mark("virtiofsd started");
  }
  return daemons;
}

Result<std::unique_ptr<Vm>> QemuHypervisor::Start(const VmConfig& config,
                                                  std::vector<NicConfig> nics) {
  TRY(Check(config));
  TRY(CheckNics(config, nics));
  Inherited inherited;
  QemuFds fds;
  fds.kernel = inherited.Add(TRY(OpenFile(config.kernel, "guest kernel")));
  fds.initrd = inherited.Add(TRY(OpenFile(config.initrd, "guest image")));
  GuestFacts facts;
  UniqueFd agent;
  std::optional<uint32_t> cid;
  if (config.channel == AgentChannel::kVsock) {
    GuestVsock vsock = TRY(AllocateVsock());
    cid = facts.cid = vsock.cid;
    fds.vsock = inherited.Add(std::move(vsock.device));
  } else {
    fds.agent = TRY(AddSocket(inherited, agent));
  }
  if (config.accelerator == Accelerator::kTcg) {
    facts.tsc_khz = HostTscKhz();
  }
  UniqueFd qmp;
  UniqueFd console;
  fds.qmp = TRY(AddSocket(inherited, qmp));
  fds.console = TRY(AddSocket(inherited, console));
  const UniqueFd cgroup = TakeCgroup(nics);
  std::vector<std::string> nic_ids = AddNics(inherited, fds, nics);
  UniqueFd exit_event = TRY(sys::EventFd());
  sys::Pipe errors = TRY(sys::MakePipe());
  inherited.AddOutput(std::move(errors.write));

  std::vector<Virtiofsd> daemons = TRY(StartDaemons(config));
  auto daemon = daemons.begin();
  for (const ShareConfig& share : config.shares) {
    const bool served = share.transport == ShareConfig::Transport::kVirtioFs;
    fds.shares.push_back(served ? inherited.Add(std::move((daemon++)->connection)) : -1);
  }
  SpawnOptions options;
  options.argv = QemuArguments(config, fds, facts);
  options.fds = inherited.list();
  options.cgroup = cgroup.get();
  Child child = TRY_AS(context_.spawner.Spawn(options), "start QEMU");
  context_.timeline.Mark("qemu started");
  return std::make_unique<QemuVm>(
      QemuParts{std::move(daemons), std::move(child), std::move(exit_event), std::move(qmp),
                std::move(console), std::move(errors.read), std::move(agent), cid,
                PlugBridges(config) * kSlotsPerBridge, std::move(nic_ids)},
      context_.timeline);
}

}  // namespace bulkhead::hypervisor::qemu
