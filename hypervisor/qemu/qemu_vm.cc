#include "hypervisor/qemu/qemu_vm.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include "base/sys.h"
#include "hypervisor/qemu/command_line.h"
#include "hypervisor/qemu/drives.h"
#include "hypervisor/qemu/nics.h"
#include "hypervisor/qemu/vsock.h"

namespace bulkhead::hypervisor::qemu {
namespace {

using std::chrono::milliseconds;

// How long the ends of streams may lag behind a death that was seen.
constexpr milliseconds kDrainTime{1000};
// A guest lets go of a device within 150 ms, even emulated; a busy host may take longer.
constexpr milliseconds kDetachTime{10000};

}  // namespace

QemuVm::QemuVm(QemuParts parts, Timeline& timeline)
    : daemons_(std::move(parts.daemons)),
      qemu_(std::move(parts.qemu)),
      errors_(std::move(parts.errors)),
      exit_event_(std::move(parts.exit_event)),
      cid_(parts.cid),
      agent_(std::move(parts.agent)),
      console_(std::move(parts.console)),
      board_(parts.hotplug_slots, kDetachTime),
      qmp_(std::move(parts.qmp), {[&timeline] { timeline.Mark("qmp ready"); },
                                  [this](const QmpMessage& message) { OnEvent(message); },
                                  [this] { board_.OnClosed(); }}),
      watcher_([this] { Watch(); }) {
  for (const std::string& id : parts.nics) {
    AdoptNic(board_, id);
  }
}

QemuVm::~QemuVm() {
  Kill();
  watcher_.join();
}

void QemuVm::Kill() {
  {
    const std::lock_guard lock(mutex_);
    killed_ = true;
  }
  // Not through the Child, which is the watcher's. An error says that it is gone.
  (void)sys::PidfdSendSignal(qemu_.pidfd(), SIGKILL);
}

std::optional<VmExit> QemuVm::Exit() {
  const std::lock_guard lock(mutex_);
  return exit_;
}

Status QemuVm::StillRuns() {
  const std::lock_guard lock(mutex_);
  if (exit_) {
    return MakeError(ErrorCode::kUnavailable, "{}", exit_->reason);
  }
  return {};
}

Result<UniqueFd> QemuVm::ConnectAgent(std::chrono::steady_clock::time_point deadline) {
  if (cid_) {
    return ConnectVsock(*cid_, kAgentVsockPort, deadline, [this] { return StillRuns(); });
  }
  TRY(StillRuns());
  const std::lock_guard lock(mutex_);
  if (!agent_) {
    return MakeError(ErrorCode::kFailedPrecondition,
                     "the virtio-serial channel to the agent is taken already");
  }
  return std::move(agent_);
}

Status QemuVm::AttachDrive(DriveConfig drive) {
  const std::string serial = drive.serial;
  return ExplainEnd("drive " + serial, qemu::AttachDrive(board_, qmp_, std::move(drive)));
}

Status QemuVm::DetachDrive(const std::string& serial) {
  return ExplainEnd("drive " + serial, qemu::DetachDrive(board_, qmp_, serial));
}

Status QemuVm::AttachNic(NicConfig nic) {
  const std::string id = nic.id;
  return ExplainEnd("NIC " + id, qemu::AttachNic(board_, qmp_, std::move(nic)));
}

Status QemuVm::DetachNic(const std::string& id) {
  return ExplainEnd("NIC " + id, qemu::DetachNic(board_, qmp_, id));
}

Status QemuVm::ExplainEnd(const std::string& what, Status status) {
  if (status || status.error().code() != ErrorCode::kUnavailable) {
    return status;
  }
  // The monitor closes a little before the process is gone and its end understood.
  (void)sys::PollOne(exit_event_.get(), POLLIN, 3 * kDrainTime);
  TRY_AS(StillRuns(), "{}", what);
  return status;
}

void QemuVm::OnEvent(const QmpMessage& message) {
  board_.OnEvent(message);
  if (message.name != "SHUTDOWN") {
    return;
  }
  if (auto shutdown = ParseQmpShutdown(message.text)) {
    const std::lock_guard lock(mutex_);
    shutdown_ = std::move(*shutdown);
  }
}

void QemuVm::Watch() {
  while (!WatchOnce()) {
  }
  VmExit exit = Conclude();
  const std::lock_guard lock(mutex_);
  exit_ = std::move(exit);
  const uint64_t one = 1;
  (void)sys::Write(exit_event_.get(), std::as_bytes(std::span(&one, 1)));
}

bool QemuVm::WatchOnce() {
  std::vector<pollfd> polled{{qemu_.pidfd(), POLLIN, 0}, {errors_.fd(), POLLIN, 0}};
  for (const Virtiofsd& daemon : daemons_) {
    // Once one is dead QEMU is being killed, and that is all there is to wait for.
    polled.push_back({dead_daemon_.empty() ? daemon.child.pidfd() : -1, POLLIN, 0});
    polled.push_back({daemon.errors.fd(), POLLIN, 0});
  }
  if (::poll(polled.data(), polled.size(), -1) <= 0) {
    return false;  // EINTR
  }
  errors_.ReadMore();
  for (size_t i = 0; i < daemons_.size(); ++i) {
    daemons_[i].errors.ReadMore();
  }
  if (polled[0].revents != 0) {
    return true;
  }
  for (size_t i = 0; i < daemons_.size(); ++i) {
    if (polled[2 + 2 * i].revents != 0) {
      NoteDeadDaemon(daemons_[i]);
      // A daemon also ends because QEMU does, whose sockets close a little before it is gone.
      if (sys::PollOne(qemu_.pidfd(), POLLIN, GraceAfterDaemon()).value_or(false)) {
        dead_daemon_.clear();
        return true;
      }
      // The guest would wait for ever for its files.
      (void)sys::PidfdSendSignal(qemu_.pidfd(), SIGKILL);
    }
  }
  return false;
}

milliseconds QemuVm::GraceAfterDaemon() {
  const std::lock_guard lock(mutex_);
  // Once QEMU has said that it stops, giving back a large memory may take a while.
  return shutdown_.reason.empty() && !killed_ ? milliseconds(50) : milliseconds(5000);
}

void QemuVm::NoteDeadDaemon(Virtiofsd& daemon) {
  const auto ended = daemon.child.Wait(milliseconds(0));
  if (!dead_daemon_.empty() || !ended || !*ended) {
    return;
  }
  daemon.errors.ReadMore();
  dead_daemon_ = fmt::format("virtiofsd for {} {}", daemon.path, DescribeEnd(**ended));
  if (const std::string words = daemon.errors.Text(); !words.empty()) {
    dead_daemon_ += ": " + words;
  }
}

void QemuVm::BlameDaemons(const sys::Exit& exit) {
  if (exit.signal != 0 || exit.code == 0) {
    return;  // they end because QEMU did
  }
  for (Virtiofsd& daemon : daemons_) {
    const auto ended = daemon.child.Wait(milliseconds(100));
    if (ended && *ended && (*ended)->ShellCode() != 0) {
      NoteDeadDaemon(daemon);
    }
  }
}

VmExit QemuVm::Conclude() {
  ExitFacts facts;
  const auto ended = qemu_.Wait(std::nullopt);
  if (ended && *ended) {
    facts.exit = **ended;
  }
  errors_.ReadMore();
  console_.WaitClosed(kDrainTime);
  qmp_.WaitClosed(kDrainTime);
  // A daemon ends by itself when QEMU does: only what failed before is a cause.
  const bool ended_by_itself = facts.exit.signal == 0 && facts.exit.code == 0;
  if (ended_by_itself) {
    dead_daemon_.clear();
  }
  BlameDaemons(facts.exit);
  facts.panic = console_.Panic();
  facts.daemon = dead_daemon_;
  facts.last_words = errors_.Text();
  const std::lock_guard lock(mutex_);
  facts.killed = killed_;
  facts.shutdown = shutdown_;
  return DescribeExit(facts);
}

}  // namespace bulkhead::hypervisor::qemu
