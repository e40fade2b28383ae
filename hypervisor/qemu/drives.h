// The drives plugged into a running QEMU, over its monitor.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "hypervisor/drive.h"
#include "hypervisor/qemu/qmp_client.h"

namespace bulkhead::hypervisor::qemu {

// Thread-safe. Nothing is locked while QEMU or the guest is waited for.
class Drives {
 public:
  // `slots`: how many drives fit; see PlugBus() in command_line.h. `detach_time`: how long a guest
  // may take to let go of one.
  Drives(uint32_t slots, std::chrono::milliseconds detach_time)
      : slots_(slots), detach_time_(detach_time) {}

  Status Attach(QmpClient& qmp, DriveConfig config);
  Status Detach(QmpClient& qmp, const std::string& serial);

  // For the monitor's reader thread.
  void OnEvent(const QmpMessage& event);
  void OnClosed();

 private:
  enum class State { kAttaching, kAttached, kDetaching };
  struct Drive {
    uint64_t number = 0;  // names it in QEMU; never used again
    uint32_t slot = 0;
    State state = State::kAttaching;
    bool gone = false;  // the guest has let go of the device
  };

  Result<Drive> Reserve(const std::string& serial);
  Result<Drive> BeginDetach(const std::string& serial);
  Status Unplug(QmpClient& qmp, const std::string& serial, uint64_t number);
  Status StillRuns(const std::string& serial) const;  // under the lock
  void SetState(const std::string& serial, State state);
  void Forget(const std::string& serial);

  const uint32_t slots_;
  const std::chrono::milliseconds detach_time_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool closed_ = false;
  uint64_t next_number_ = 0;
  std::map<std::string, Drive> drives_;  // by serial
};

}  // namespace bulkhead::hypervisor::qemu
