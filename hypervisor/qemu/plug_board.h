// What is plugged into the PCI bridges of a running QEMU, over its monitor.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "base/result.h"
#include "hypervisor/qemu/qmp_client.h"

namespace bulkhead::hypervisor::qemu {

// QEMU answers at once, unless its host is in trouble.
inline constexpr std::chrono::milliseconds kQmpTime{20000};

// A device on its way in: what QEMU needs behind it, and the device itself.
class Pluggable {
 public:
  virtual ~Pluggable() = default;
  virtual Status AddBackend(QmpClient& qmp, uint64_t number) const = 0;
  virtual Status RemoveBackend(QmpClient& qmp, uint64_t number) const = 0;
  // device_add's, as a JSON object. `place` is a part of it: "bus" and "addr".
  virtual std::string DeviceArguments(uint64_t number, const std::string& place) const = 0;
};

// Thread-safe. Nothing is locked while QEMU or the guest is waited for. `what` names a device, in
// errors too: "drive x".
class PlugBoard {
 public:
  // `slots`: how many devices fit; see PlugPlace() in command_line.h. `detach_time`: how long a
  // guest may take to let go of one.
  PlugBoard(uint32_t slots, std::chrono::milliseconds detach_time)
      : slots_(slots), detach_time_(detach_time) {}

  Status Attach(QmpClient& qmp, const std::string& what, const Pluggable& device);
  // `device` may be another of the same kind: only its backend is removed.
  Status Detach(QmpClient& qmp, const std::string& what, const Pluggable& device);
  // A device that QEMU was started with, as `number` in the slot of the same number: the next in a
  // row from 0, before any other call.
  void Adopt(const std::string& what);

  // For the monitor's reader thread.
  void OnEvent(const QmpMessage& event);
  void OnClosed();

 private:
  enum class State { kAttaching, kAttached, kDetaching };
  struct Plug {
    uint64_t number = 0;  // names it in QEMU; never used again
    uint32_t slot = 0;
    State state = State::kAttaching;
    bool gone = false;  // the guest has let go of the device
  };

  Result<Plug> Reserve(const std::string& what);
  Result<Plug> BeginDetach(const std::string& what);
  Status Unplug(QmpClient& qmp, const std::string& what, uint64_t number);
  Status StillRuns() const;  // under the lock
  void SetState(const std::string& what, State state);
  void Forget(const std::string& what);

  const uint32_t slots_;
  const std::chrono::milliseconds detach_time_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool closed_ = false;
  uint64_t next_number_ = 0;
  std::map<std::string, Plug> plugs_;  // by name
};

}  // namespace bulkhead::hypervisor::qemu
