// A hypervisor for tests of what stands above it: no process; the test is the guest.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "base/sys.h"
#include "hypervisor/hypervisor.h"

namespace bulkhead::hypervisor {

// What the test and the VM share; it outlives the VM.
class FakeGuest {
 public:
  // `agent` is the host's end of a socket pair whose other end the test serves.
  explicit FakeGuest(UniqueFd agent) : agent_(std::move(agent)), exit_event_(*sys::EventFd()) {}

  // The guest ends: the first time counts.
  void End(VmExit exit) {
    const std::lock_guard lock(mutex_);
    if (!exit_) {
      exit_ = std::move(exit);
      const uint64_t one = 1;
      (void)sys::Write(exit_event_.get(), std::as_bytes(std::span(&one, 1)));
    }
  }
  std::optional<VmExit> exit() const {
    const std::lock_guard lock(mutex_);
    return exit_;
  }
  int exit_fd() const { return exit_event_.get(); }
  Result<UniqueFd> TakeAgent() {
    const std::lock_guard lock(mutex_);
    TRY(StillRuns());
    if (!agent_) {
      return MakeError(ErrorCode::kFailedPrecondition, "the channel to the agent is taken already");
    }
    return std::move(agent_);
  }

  Status AttachDrive(DriveConfig drive) {
    TRY(CheckDrive(drive));
    const std::lock_guard lock(mutex_);
    TRY_AS(StillRuns(), "drive {}", drive.serial);
    if (drives_.contains(drive.serial)) {
      return MakeError(ErrorCode::kAlreadyExists, "drive {}: the VM has one of this name",
                       drive.serial);
    }
    std::string serial = drive.serial;
    drives_.emplace(std::move(serial), std::move(drive));
    return {};
  }
  Status DetachDrive(const std::string& serial) {
    const std::lock_guard lock(mutex_);
    TRY_AS(StillRuns(), "drive {}", serial);
    if (drives_.erase(serial) == 0) {
      return MakeError(ErrorCode::kNotFound, "drive {}: the VM has none of this name", serial);
    }
    return {};
  }
  Status AttachNic(NicConfig nic) {
    TRY(CheckNic(nic));
    const std::lock_guard lock(mutex_);
    TRY_AS(StillRuns(), "NIC {}", nic.id);
    if (nics_.contains(nic.id)) {
      return MakeError(ErrorCode::kAlreadyExists, "NIC {}: the VM has one of this name", nic.id);
    }
    std::string id = nic.id;
    nics_.emplace(std::move(id), std::move(nic));
    return {};
  }
  Status DetachNic(const std::string& id) {
    const std::lock_guard lock(mutex_);
    TRY_AS(StillRuns(), "NIC {}", id);
    if (nics_.erase(id) == 0) {
      return MakeError(ErrorCode::kNotFound, "NIC {}: the VM has none of this name", id);
    }
    return {};
  }
  // The addresses of the interfaces, in the order of their ids.
  std::vector<std::string> nics() const {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> macs;
    for (const auto& [id, nic] : nics_) {
      macs.push_back(FormatMac(nic.mac));
    }
    return macs;
  }
  // The serials of the drives, sorted.
  std::vector<std::string> drives() const {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> serials;
    for (const auto& [serial, drive] : drives_) {
      serials.push_back(serial);
    }
    return serials;
  }

 private:
  Status StillRuns() const {  // under the lock
    if (exit_) {
      return MakeError(ErrorCode::kUnavailable, "{}", exit_->reason);
    }
    return {};
  }

  mutable std::mutex mutex_;
  UniqueFd agent_;
  std::map<std::string, DriveConfig> drives_;  // by serial
  std::map<std::string, NicConfig> nics_;      // by id
  const UniqueFd exit_event_;
  std::optional<VmExit> exit_;
};

class FakeVm final : public Vm {
 public:
  explicit FakeVm(std::shared_ptr<FakeGuest> guest) : guest_(std::move(guest)) {}
  ~FakeVm() override { Kill(); }

  Result<UniqueFd> ConnectAgent(std::chrono::steady_clock::time_point) override {
    return guest_->TakeAgent();
  }
  Status AttachDrive(DriveConfig drive) override { return guest_->AttachDrive(std::move(drive)); }
  Status DetachDrive(const std::string& serial) override { return guest_->DetachDrive(serial); }
  Status AttachNic(NicConfig nic) override { return guest_->AttachNic(std::move(nic)); }
  Status DetachNic(const std::string& id) override { return guest_->DetachNic(id); }
  int exit_fd() const override { return guest_->exit_fd(); }
  std::optional<VmExit> Exit() override { return guest_->exit(); }
  void Kill() override { guest_->End({"the VM was killed on request", false}); }
  pid_t pid() const override { return ::getpid(); }
  std::string ConsoleTail() const override { return "fake console\n"; }

 private:
  const std::shared_ptr<FakeGuest> guest_;
};

class FakeHypervisor final : public Hypervisor {
 public:
  // Called for each start: gives the guest, or the error of the start. The interfaces that the VM
  // starts with are the guest's from then on.
  using OnStart = std::function<Result<std::shared_ptr<FakeGuest>>(const VmConfig&)>;
  explicit FakeHypervisor(OnStart on_start) : on_start_(std::move(on_start)) {}

  Result<std::unique_ptr<Vm>> Start(const VmConfig& config, std::vector<NicConfig> nics) override {
    const std::shared_ptr<FakeGuest> guest = TRY(on_start_(config));
    for (NicConfig& nic : nics) {
      TRY(guest->AttachNic(std::move(nic)));
    }
    return std::make_unique<FakeVm>(guest);
  }

 private:
  const OnStart on_start_;
};

}  // namespace bulkhead::hypervisor
