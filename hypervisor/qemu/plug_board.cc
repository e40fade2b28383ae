#include "hypervisor/qemu/plug_board.h"

#include <set>

#include "base/scope_guard.h"
#include "hypervisor/qemu/command_line.h"

namespace bulkhead::hypervisor::qemu {

Status PlugBoard::Attach(QmpClient& qmp, const std::string& what, const Pluggable& device) {
  const Plug plug = TRY_AS(Reserve(what), "{}", what);
  ScopeGuard forget([&] { Forget(what); });
  TRY_AS(device.AddBackend(qmp, plug.number), "{}", what);
  const auto plugged = qmp.Execute(
      "device_add", device.DeviceArguments(plug.number, PlugPlace(plug.slot)), kQmpTime);
  if (!plugged) {
    if (!device.RemoveBackend(qmp, plug.number)) {
      // The device may be there after all: its place is not free.
      SetState(what, State::kAttached);
      forget.Dismiss();
    }
    return MakeError(plugged.error().code(), "{}: {}", what, plugged.error().message());
  }
  forget.Dismiss();
  SetState(what, State::kAttached);
  return {};
}

Status PlugBoard::Detach(QmpClient& qmp, const std::string& what, const Pluggable& device) {
  const Plug plug = TRY_AS(BeginDetach(what), "{}", what);
  ScopeGuard stays([&] { SetState(what, State::kAttached); });
  TRY_AS(Unplug(qmp, what, plug.number), "{}", what);
  TRY_AS(device.RemoveBackend(qmp, plug.number), "{}", what);
  stays.Dismiss();
  Forget(what);
  return {};
}

void PlugBoard::Adopt(const std::string& what) {
  const std::lock_guard lock(mutex_);
  const uint64_t number = next_number_++;
  plugs_.emplace(what, Plug{number, static_cast<uint32_t>(number), State::kAttached, false});
}

Status PlugBoard::Unplug(QmpClient& qmp, const std::string& what, uint64_t number) {
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
  const Plug& plug = plugs_.at(what);  // only the call that detaches it erases it
  changed_.wait_for(lock, detach_time_, [&] { return plug.gone || closed_; });
  if (plug.gone) {
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

Status PlugBoard::StillRuns() const {
  if (closed_) {
    return MakeError(ErrorCode::kUnavailable, "the VM is gone");
  }
  return {};
}

Result<PlugBoard::Plug> PlugBoard::Reserve(const std::string& what) {
  const std::lock_guard lock(mutex_);
  TRY(StillRuns());
  if (plugs_.contains(what)) {
    return MakeError(ErrorCode::kAlreadyExists, "the VM has one of this name");
  }
  std::set<uint32_t> taken;
  for (const auto& [other, plug] : plugs_) {
    taken.insert(plug.slot);
  }
  Plug plug;
  while (taken.contains(plug.slot)) {
    ++plug.slot;
  }
  if (plug.slot >= slots_) {
    return MakeError(ErrorCode::kResourceExhausted, "all {} places of the VM are taken", slots_);
  }
  plug.number = next_number_++;
  return plugs_.emplace(what, plug).first->second;
}

Result<PlugBoard::Plug> PlugBoard::BeginDetach(const std::string& what) {
  const std::lock_guard lock(mutex_);
  TRY(StillRuns());
  const auto found = plugs_.find(what);
  if (found == plugs_.end()) {
    return MakeError(ErrorCode::kNotFound, "the VM has none of this name");
  }
  if (found->second.state != State::kAttached) {
    return MakeError(ErrorCode::kFailedPrecondition, "is being {}",
                     found->second.state == State::kAttaching ? "attached" : "detached");
  }
  found->second.state = State::kDetaching;
  return found->second;
}

void PlugBoard::SetState(const std::string& what, State state) {
  const std::lock_guard lock(mutex_);
  plugs_.at(what).state = state;
}

void PlugBoard::Forget(const std::string& what) {
  const std::lock_guard lock(mutex_);
  plugs_.erase(what);
}

void PlugBoard::OnEvent(const QmpMessage& event) {
  if (event.name != "DEVICE_DELETED") {
    return;
  }
  const std::string device = ParseQmpDeviceDeleted(event.text).value_or("");
  {
    const std::lock_guard lock(mutex_);
    for (auto& [what, plug] : plugs_) {
      plug.gone = plug.gone || DeviceName(plug.number) == device;
    }
  }
  changed_.notify_all();
}

void PlugBoard::OnClosed() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  changed_.notify_all();
}

}  // namespace bulkhead::hypervisor::qemu
