// A running QEMU process, watched.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/child.h"
#include "base/last_words.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "hypervisor/hypervisor.h"
#include "hypervisor/qemu/console_log.h"
#include "hypervisor/qemu/plug_board.h"
#include "hypervisor/qemu/qmp_client.h"
#include "hypervisor/qemu/virtiofsd.h"
#include "hypervisor/qemu/vm_exit.h"

namespace bulkhead::hypervisor::qemu {

// What a start leaves behind: all that the VM owns.
struct QemuParts {
  std::vector<Virtiofsd> daemons;  // first, to go last: QEMU dies before what it is served by
  Child qemu;
  UniqueFd exit_event;
  UniqueFd qmp;
  UniqueFd console;
  UniqueFd errors;
  UniqueFd agent;               // AgentChannel::kVirtioSerial
  std::optional<uint32_t> cid;  // AgentChannel::kVsock
  uint32_t hotplug_slots = 0;
  std::vector<std::string> nics;  // ids of those on the command line
};

class QemuVm final : public Vm {
 public:
  QemuVm(QemuParts parts, Timeline& timeline);
  ~QemuVm() override;

  Result<UniqueFd> ConnectAgent(std::chrono::steady_clock::time_point deadline) override;
  Status AttachDrive(DriveConfig drive) override;
  Status DetachDrive(const std::string& serial) override;
  Status AttachNic(NicConfig nic) override;
  Status DetachNic(const std::string& id) override;
  int exit_fd() const override { return exit_event_.get(); }
  std::optional<VmExit> Exit() override;
  void Kill() override;
  pid_t pid() const override { return qemu_.pid(); }
  std::string ConsoleTail() const override { return console_.Tail(); }

  QmpClient& qmp() { return qmp_; }
  const std::vector<Virtiofsd>& daemons() const { return daemons_; }

 private:
  void Watch();
  // Waits for news of QEMU, its daemons and their stderr. True when QEMU has ended.
  bool WatchOnce();
  // How long QEMU may outlive a daemon without being the daemon's victim.
  std::chrono::milliseconds GraceAfterDaemon();
  void NoteDeadDaemon(Virtiofsd& daemon);
  // A daemon that failed may be why QEMU did, and be noticed after it.
  void BlameDaemons(const sys::Exit& exit);
  VmExit Conclude();
  Status StillRuns();
  // When that failed because the VM is gone: why.
  Status ExplainEnd(const std::string& what, Status status);
  void OnEvent(const QmpMessage& message);

  std::vector<Virtiofsd> daemons_;  // the watcher's alone, but for their pids
  Child qemu_;                      // the watcher's alone, but for pid and pidfd
  LastWords errors_;                // the watcher's alone
  std::string dead_daemon_;         // the watcher's alone
  const UniqueFd exit_event_;
  const std::optional<uint32_t> cid_;
  std::mutex mutex_;
  UniqueFd agent_;
  bool killed_ = false;
  QmpShutdown shutdown_;
  std::optional<VmExit> exit_;
  ConsoleLog console_;
  PlugBoard board_;
  QmpClient qmp_;
  std::thread watcher_;
};

}  // namespace bulkhead::hypervisor::qemu
