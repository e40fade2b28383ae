#include "agent/cgroups.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <sstream>

#include "agent/cgroup_stats.h"
#include "agent/devices_bpf.h"
#include "base/sys.h"

namespace bulkhead::agent {
namespace {

constexpr auto kEmptyTimeout = std::chrono::seconds(10);
constexpr auto kFreezeTimeout = std::chrono::seconds(10);
constexpr uint64_t kDefaultPeriodUs = 100'000;

std::string LimitText(int64_t value) { return value < 0 ? "max" : std::to_string(value); }

Status AddMemory(const oci::MemoryResources& memory, std::vector<CgroupSetting>& out) {
  const int64_t limit = memory.limit.value_or(0);
  const int64_t swap = memory.swap.value_or(0);
  if (swap > 0 && limit <= 0) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "linux.resources.memory.swap: needs a memory limit");
  }
  if (swap > 0 && swap < limit) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "linux.resources.memory.swap: below the memory limit");
  }
  if (swap > 0) {
    out.emplace_back("memory.swap.max", std::to_string(swap - limit));
  } else if (swap < 0 || limit < 0) {
    out.emplace_back("memory.swap.max", "max");
  }
  if (limit != 0) {
    out.emplace_back("memory.max", LimitText(limit));
  }
  if (memory.reservation.value_or(0) != 0) {
    out.emplace_back("memory.low", LimitText(*memory.reservation));
  }
  return {};
}

void AddCpu(const oci::CpuResources& cpu, std::vector<CgroupSetting>& out) {
  if (cpu.idle) {  // before the weight, which an idle group does not take
    out.emplace_back("cpu.idle", std::to_string(*cpu.idle));
  }
  if (cpu.shares.value_or(0) != 0) {
    out.emplace_back("cpu.weight", std::to_string(CpuWeightFromShares(*cpu.shares)));
  }
  const int64_t quota = cpu.quota.value_or(0);
  const uint64_t period = cpu.period.value_or(0);
  if (cpu.burst) {  // before a smaller quota ...
    out.emplace_back("cpu.max.burst", std::to_string(*cpu.burst));
  }
  if (quota != 0 || period != 0) {
    out.emplace_back("cpu.max", fmt::format("{} {}", quota > 0 ? std::to_string(quota) : "max",
                                            period != 0 ? period : kDefaultPeriodUs));
    if (cpu.burst) {  // ... and after a larger one
      out.push_back(out[out.size() - 2]);
    }
  }
  if (!cpu.cpus.empty()) {
    out.emplace_back("cpuset.cpus", cpu.cpus);
  }
  if (!cpu.mems.empty()) {
    out.emplace_back("cpuset.mems", cpu.mems);
  }
}

void AddBlockIo(const oci::BlockIo& io, std::vector<CgroupSetting>& out) {
  if (io.weight != 0) {
    out.emplace_back("io.bfq.weight", std::to_string(io.weight));
  }
  for (const oci::WeightDevice& device : io.weight_devices) {
    out.emplace_back("io.bfq.weight",
                     fmt::format("{}:{} {}", device.major, device.minor,
                                 device.weight == 0 ? "default" : std::to_string(device.weight)));
  }
  const auto throttle = [&](const std::vector<oci::ThrottleDevice>& devices, const char* key) {
    for (const oci::ThrottleDevice& device : devices) {
      out.emplace_back("io.max",
                       fmt::format("{}:{} {}={}", device.major, device.minor, key,
                                   device.rate == 0 ? "max" : std::to_string(device.rate)));
    }
  };
  throttle(io.read_bps, "rbps");
  throttle(io.write_bps, "wbps");
  throttle(io.read_iops, "riops");
  throttle(io.write_iops, "wiops");
}

// The folders below, children first.
void CollectBelow(const std::string& path, std::vector<std::string>& out) {
  const auto names = sys::ListDirectory(path);
  if (!names) {
    return;
  }
  for (const std::string& name : *names) {
    const std::string child = fmt::format("{}/{}", path, name);
    const auto info = sys::LStat(child);
    if (info && S_ISDIR(info->st_mode)) {
      CollectBelow(child, out);
      out.push_back(child);
    }
  }
}

// Waits until cgroup.events says so; false when the time ran out.
Result<bool> AwaitEvent(const std::string& path, std::string_view line,
                        std::chrono::milliseconds timeout) {
  const UniqueFd events = TRY(sys::Open(path + "/cgroup.events", O_RDONLY));
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  while (TRY(sys::ReadFile(path + "/cgroup.events")).find(line) == std::string::npos) {
    if (std::chrono::steady_clock::now() > deadline) {
      return false;
    }
    // The kernel tells of a change by POLLPRI; 20 ms is for the change between read and poll.
    TRY(sys::PollOne(events.get(), POLLPRI, std::chrono::milliseconds(20)));
  }
  return true;
}

bool Named(const auto& value) { return value.value_or(0) != 0; }

void Fill(auto& value, const auto& with) {
  if (!Named(value)) {
    value = with;
  }
}

// What a kernel without the file, or without the device, means for the setting.
Status Explain(const CgroupSetting& setting, Status written) {
  const auto& [file, value] = setting;
  const int errnum = written ? 0 : written.error().errnum();
  if (errnum == ENOENT) {
    // A kernel without swap accounting cannot give swap, either; any other limit must hold.
    // Of pages of a size that the machine has not got, everybody has at most none.
    if (file == "memory.swap.max" || (file.starts_with("hugetlb.") && value == "0")) {
      return {};
    }
    return MakeError(ErrorCode::kUnimplemented, "cgroup: the guest's kernel has no {}", file);
  }
  if (errnum == ENODEV && file.starts_with("io.")) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "linux.resources.blockIO: \"{}\": the guest has no such disk (the numbers are "
                     "the guest's)",
                     value);
  }
  if (errnum == EOPNOTSUPP && file == "io.bfq.weight") {
    return MakeError(ErrorCode::kFailedPrecondition,
                     "linux.resources.blockIO: \"{}\": this disk of the guest does not use the "
                     "scheduler bfq, which alone knows weights",
                     value);
  }
  TRY_AS(written, "cgroup");
  return {};
}

Status CheckUsage(const std::string& path, const oci::MemoryResources& memory) {
  const auto text = sys::ReadFile(path + "/memory.current");
  int64_t usage = 0;
  if (!memory.check_before_update || !text ||
      std::from_chars(text->data(), text->data() + text->size(), usage).ec != std::errc()) {
    return {};
  }
  for (const auto& [name, limit] :
       {std::pair("swap", memory.swap), std::pair("limit", memory.limit)}) {
    if (limit.value_or(0) > 0 && *limit <= usage) {
      return MakeError(ErrorCode::kFailedPrecondition,
                       "linux.resources.memory.{}: {} is not more than the {} in use", name, *limit,
                       usage);
    }
  }
  return {};
}

Status WriteLimits(const std::string& path, const oci::Resources& resources) {
  const auto settings = TRY(CgroupSettings(resources));
  TRY(CheckUsage(path, resources.memory));
  for (auto setting = settings.begin(); setting != settings.end(); ++setting) {
    Status written =
        sys::WriteExisting(fmt::format("{}/{}", path, setting->first), setting->second);
    // One that is written twice has to hold the second time only.
    if (!written && written.error().errnum() == EINVAL &&
        std::find(setting + 1, settings.end(), *setting) != settings.end()) {
      continue;
    }
    TRY(Explain(*setting, std::move(written)));
  }
  return {};
}

}  // namespace

uint64_t CpuWeightFromShares(uint64_t shares) {
  constexpr uint64_t kMin = 2;
  constexpr uint64_t kMax = 262144;
  const uint64_t bounded = shares < kMin ? kMin : shares > kMax ? kMax : shares;
  return 1 + (bounded - kMin) * 9999 / (kMax - kMin);
}

Result<std::vector<CgroupSetting>> CgroupSettings(const oci::Resources& resources) {
  std::vector<CgroupSetting> out;
  TRY(AddMemory(resources.memory, out));
  AddCpu(resources.cpu, out);
  AddBlockIo(resources.block_io, out);
  if (resources.pids_limit.value_or(0) != 0) {
    out.emplace_back("pids.max", LimitText(*resources.pids_limit));
  }
  for (const oci::HugepageLimit& limit : resources.hugepage_limits) {
    out.emplace_back(fmt::format("hugetlb.{}.max", limit.page_size), std::to_string(limit.limit));
  }
  for (const auto& [file, value] : resources.unified) {
    if (file.empty() || file.find('/') != std::string::npos || file.front() == '.') {
      return MakeError(ErrorCode::kInvalidArgument, "linux.resources.unified: bad name \"{}\"",
                       file);
    }
    out.emplace_back(file, value);
  }
  return out;
}

oci::Resources CompleteUpdate(const oci::Resources& current, oci::Resources update) {
  if (Named(update.cpu.quota) || Named(update.cpu.period)) {
    Fill(update.cpu.quota, current.cpu.quota);
    Fill(update.cpu.period, current.cpu.period);
  }
  if (update.memory.limit.value_or(0) < 0 && !Named(update.memory.swap)) {
    update.memory.swap = -1;
  } else if (Named(update.memory.limit) || Named(update.memory.swap)) {
    Fill(update.memory.limit, current.memory.limit);
    Fill(update.memory.swap, current.memory.swap);
  }
  return update;
}

void RememberUpdate(const oci::Resources& applied, oci::Resources& current) {
  const auto note = [](const auto& from, auto& to) {
    if (Named(from)) {
      to = from;
    }
  };
  note(applied.cpu.quota, current.cpu.quota);
  note(applied.cpu.period, current.cpu.period);
  note(applied.memory.limit, current.memory.limit);
  note(applied.memory.swap, current.memory.swap);
}

Result<Cgroup> Cgroup::Create(const std::string& root, const std::string& name) {
  const std::string path = root + "/" + name;
  TRY_AS(sys::Mkdir(path), "cgroup");
  auto fd = sys::Open(path, O_RDONLY | O_DIRECTORY);
  if (!fd) {
    static_cast<void>(sys::Rmdir(path));
    return tl::unexpected<Error>(std::move(fd).error());
  }
  return Cgroup(path, std::move(*fd));
}

Cgroup::~Cgroup() {
  if (fd_) {
    static_cast<void>(Remove());
  }
}

Status Cgroup::Apply(const oci::Resources& resources, bool device_filter) {
  TRY(WriteLimits(path_, resources));
  const DevicePolicy policy = TRY(DevicePolicy::FromRules(resources.devices));
  return device_filter ? AttachDevicePolicy(fd(), policy) : Status();
}

Status Cgroup::Update(const oci::Resources& resources) { return WriteLimits(path_, resources); }

Status Cgroup::Delegate(uid_t uid, gid_t gid) const {
  TRY(sys::Chown(path_, uid, gid));
  std::istringstream names(TRY(sys::ReadFile("/sys/kernel/cgroup/delegate")));
  for (std::string name; names >> name;) {
    const auto given = sys::Chown(fmt::format("{}/{}", path_, name), uid, gid);
    if (!given && given.error().errnum() != ENOENT) {  // of a controller that is not on
      return given;
    }
  }
  return {};
}

Status Cgroup::Freeze(bool frozen) const {
  const std::string file = path_ + "/cgroup.freeze";
  TRY_AS(sys::WriteExisting(file, frozen ? "1" : "0"), "cgroup");
  if (!TRY(AwaitEvent(path_, frozen ? "frozen 1" : "frozen 0", kFreezeTimeout))) {
    static_cast<void>(sys::WriteExisting(file, "0"));
    return MakeError(ErrorCode::kDeadlineExceeded, "cgroup: a process does not {}",
                     frozen ? "stop" : "continue");
  }
  return {};
}

Result<UniqueFd> Cgroup::ForExec(pid_t init) const {
  const auto controllers = sys::ReadFile(path_ + "/cgroup.subtree_control");
  if (!controllers || controllers->find_first_not_of(" \n") == std::string::npos) {
    return sys::Dup(fd());
  }
  // "0::/ID/init.scope"
  const std::string text = TRY(sys::ReadFile(fmt::format("/proc/{}/cgroup", init)));
  const std::string name = path_.substr(path_.rfind('/'));
  const size_t start = text.find("0::" + name + "/");
  if (start == std::string::npos) {
    return sys::Dup(fd());
  }
  const size_t below = start + 3 + name.size();
  return sys::Open(path_ + text.substr(below, text.find('\n', below) - below),
                   O_RDONLY | O_DIRECTORY);
}

uint64_t Cgroup::OomKills() const { return CountOomKills(path_); }

Status Cgroup::Kill() const {
  const auto killed = sys::WriteExisting(path_ + "/cgroup.kill", "1");
  if (!killed && killed.error().errnum() == ENOENT) {  // before Linux 5.14
    return Signal(SIGKILL);
  }
  return killed;
}

Status Cgroup::Signal(int signal) const {
  for (const pid_t pid : TRY(Processes())) {
    if (auto sent = sys::Kill(pid, signal); !sent && sent.error().errnum() != ESRCH) {
      return sent;
    }
  }
  return {};
}

Result<std::vector<pid_t>> Cgroup::Processes() const {
  std::vector<std::string> folders{path_};
  CollectBelow(path_, folders);
  std::vector<pid_t> pids;
  for (const std::string& folder : folders) {
    const auto text = sys::ReadFile(folder + "/cgroup.procs");
    if (!text) {
      continue;  // removed meanwhile, or a threaded one
    }
    std::istringstream stream(*text);
    for (pid_t pid = 0; stream >> pid;) {
      pids.push_back(pid);
    }
  }
  return pids;
}

Status Cgroup::Remove() {
  if (!fd_) {
    return {};
  }
  static_cast<void>(Kill());
  static_cast<void>(TRY(AwaitEvent(path_, "populated 0", kEmptyTimeout)));  // else rmdir says it
  std::vector<std::string> folders;
  CollectBelow(path_, folders);
  folders.push_back(path_);
  for (const std::string& folder : folders) {
    TRY_AS(sys::Rmdir(folder), "cgroup");
  }
  fd_.Reset();
  return {};
}

Status EnableControllers(const std::string& root) {
  std::istringstream names(TRY(sys::ReadFile(root + "/cgroup.controllers")));
  // One at a time: a controller that refuses must not hold up the others.
  for (std::string name; names >> name;) {
    static_cast<void>(sys::WriteExisting(root + "/cgroup.subtree_control", "+" + name));
  }
  return {};
}

}  // namespace bulkhead::agent
