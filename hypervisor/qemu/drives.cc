#include "hypervisor/qemu/drives.h"

#include <set>

#include "base/scope_guard.h"
#include "hypervisor/qemu/command_line.h"

namespace bulkhead::hypervisor::qemu {
namespace {

// QEMU answers at once, unless its host is in trouble.
constexpr std::chrono::milliseconds kQmpTime{20000};

std::string DeviceName(uint64_t number) { return fmt::format("d{}", number); }

// The file's own node without a format above it: the content is what the guest sees, and is never
// probed. Named by descriptor, never by path.
// A block device is read past the host's cache, because the guest has its own (and a loop device
// that of its file); a file is read through it, because pods share images. Threads, not native
// AIO: that may block the main loop, and with it the guest, when a thin or loop device allocates.
// The locks are QEMU's default: two VMs that write to one file are refused.
std::string NodeArguments(uint64_t number, DriveKind kind, bool read_only) {
  const bool block = kind == DriveKind::kBlockDevice;
  return fmt::format(
      R"({{"driver":"{}","node-name":"d{}","filename":"/dev/fdset/{}","read-only":{},)"
      R"("cache":{{"direct":{}}},"aio":"threads","discard":"unmap"}})",
      block ? "host_device" : "file", number, number, read_only, block);
}

// One queue: QEMU serves all from one thread, and 64 drives must not eat up the guest's interrupt
// vectors. Errors go to the guest: QEMU would stop the VM when the host's disk is full.
std::string DeviceArguments(uint64_t number, const std::string& serial, uint32_t slot) {
  return fmt::format(
      R"({{"driver":"virtio-blk-pci","id":"d{}","drive":"d{}","serial":"{}",{},)"
      R"("num-queues":1,"disable-legacy":"on","werror":"report","rerror":"report"}})",
      number, number, serial, PlugPlace(slot));
}

// Opens the file in QEMU, as node `number`. The set is given up at once: the node has a copy of the
// descriptor, and QEMU drops both with it.
Status AddNode(QmpClient& qmp, uint64_t number, DriveKind kind, const DriveConfig& config) {
  const std::string set = fmt::format(R"({{"fdset-id":{}}})", number);
  TRY(qmp.Execute("add-fd", set, kQmpTime, config.file.get()));
  const auto added =
      qmp.Execute("blockdev-add", NodeArguments(number, kind, config.read_only), kQmpTime);
  (void)qmp.Execute("remove-fd", set, kQmpTime);  // an error costs a descriptor until the VM ends
  TRY(added);
  return {};
}

Status RemoveNode(QmpClient& qmp, uint64_t number) {
  TRY(qmp.Execute("blockdev-del", fmt::format(R"({{"node-name":"d{}"}})", number), kQmpTime));
  return {};
}

}  // namespace

Status Drives::Attach(QmpClient& qmp, DriveConfig config) {
  const DriveKind kind = TRY(CheckDrive(config));
  const Drive drive = TRY(Reserve(config.serial));
  ScopeGuard forget([&] { Forget(config.serial); });
  TRY_AS(AddNode(qmp, drive.number, kind, config), "drive {}", config.serial);
  const auto plugged =
      qmp.Execute("device_add", DeviceArguments(drive.number, config.serial, drive.slot), kQmpTime);
  if (!plugged) {
    if (!RemoveNode(qmp, drive.number)) {
      // The device may be there after all: its place is not free.
      SetState(config.serial, State::kAttached);
      forget.Dismiss();
    }
    return MakeError(plugged.error().code(), "drive {}: {}", config.serial,
                     plugged.error().message());
  }
  forget.Dismiss();
  SetState(config.serial, State::kAttached);
  return {};
}

Status Drives::Detach(QmpClient& qmp, const std::string& serial) {
  const Drive drive = TRY(BeginDetach(serial));
  ScopeGuard stays([&] { SetState(serial, State::kAttached); });
  TRY_AS(Unplug(qmp, serial, drive.number), "drive {}", serial);
  TRY_AS(RemoveNode(qmp, drive.number), "drive {}", serial);
  stays.Dismiss();
  Forget(serial);
  return {};
}

Status Drives::Unplug(QmpClient& qmp, const std::string& serial, uint64_t number) {
  const auto asked =
      qmp.Execute("device_del", fmt::format(R"({{"id":"{}"}})", DeviceName(number)), kQmpTime);
  if (!asked && asked.error().code() == ErrorCode::kNotFound) {
    return {};  // the guest threw it out unasked, or after an earlier call had given up
  }
  // Any other refusal is final, but for QEMU's word that it has asked the guest already.
  if (!asked && asked.error().message().find("in the process of unplug") == std::string::npos) {
    return tl::unexpected(asked.error());
  }
  std::unique_lock lock(mutex_);
  const Drive& drive = drives_.at(serial);  // only the call that detaches it erases it
  changed_.wait_for(lock, detach_time_, [&] { return drive.gone || closed_; });
  if (drive.gone) {
    return {};
  }
  if (closed_) {
    return MakeError(ErrorCode::kUnavailable, "the VM ended meanwhile");
  }
  return MakeError(ErrorCode::kDeadlineExceeded,
                   "the guest did not let go of it within {} ms: it stays until it does or the VM "
                   "ends",
                   detach_time_.count());
}

Status Drives::StillRuns(const std::string& serial) const {
  if (closed_) {
    return MakeError(ErrorCode::kUnavailable, "drive {}: the VM is gone", serial);
  }
  return {};
}

Result<Drives::Drive> Drives::Reserve(const std::string& serial) {
  const std::lock_guard lock(mutex_);
  TRY(StillRuns(serial));
  if (drives_.contains(serial)) {
    return MakeError(ErrorCode::kAlreadyExists, "drive {}: the VM has one with this serial",
                     serial);
  }
  std::set<uint32_t> taken;
  for (const auto& [other, drive] : drives_) {
    taken.insert(drive.slot);
  }
  Drive drive;
  while (taken.contains(drive.slot)) {
    ++drive.slot;
  }
  if (drive.slot >= slots_) {
    return MakeError(ErrorCode::kResourceExhausted, "drive {}: all {} places of the VM are taken",
                     serial, slots_);
  }
  drive.number = next_number_++;
  return drives_.emplace(serial, drive).first->second;
}

Result<Drives::Drive> Drives::BeginDetach(const std::string& serial) {
  const std::lock_guard lock(mutex_);
  TRY(StillRuns(serial));
  const auto found = drives_.find(serial);
  if (found == drives_.end()) {
    return MakeError(ErrorCode::kNotFound, "drive {}: the VM has none with this serial", serial);
  }
  if (found->second.state != State::kAttached) {
    return MakeError(ErrorCode::kFailedPrecondition, "drive {}: is being {}", serial,
                     found->second.state == State::kAttaching ? "attached" : "detached");
  }
  found->second.state = State::kDetaching;
  return found->second;
}

void Drives::SetState(const std::string& serial, State state) {
  const std::lock_guard lock(mutex_);
  drives_.at(serial).state = state;
}

void Drives::Forget(const std::string& serial) {
  const std::lock_guard lock(mutex_);
  drives_.erase(serial);
}

void Drives::OnEvent(const QmpMessage& event) {
  if (event.name != "DEVICE_DELETED") {
    return;
  }
  const std::string device = ParseQmpDeviceDeleted(event.text).value_or("");
  {
    const std::lock_guard lock(mutex_);
    for (auto& [serial, drive] : drives_) {
      drive.gone = drive.gone || DeviceName(drive.number) == device;
    }
  }
  changed_.notify_all();
}

void Drives::OnClosed() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  changed_.notify_all();
}

}  // namespace bulkhead::hypervisor::qemu
