#include "shim/engine_pod.h"

#include <fcntl.h>
#include <signal.h>

#include <cstdlib>
#include <sstream>
#include <thread>

#include "base/sys.h"
#include "base/temp_dir.h"
#include "oci/digest.h"

namespace bulkhead::shim {
namespace {

constexpr char kContainerdSockets[] = "/run/containerd/s";
constexpr char kRecord[] = "/bulkhead.pod";  // in the bundle: folder and socket, a line each
constexpr size_t kFolderName = 24;
constexpr size_t kMaxStat = 4096;
constexpr size_t kMaxRecord = 8192;
constexpr std::chrono::milliseconds kLockPause(20);

// Of /proc/PID/stat, counted from 1 as in proc(5). The second, the name in parentheses, may hold
// anything: `number` is a later one.
Result<std::string> StatField(pid_t pid, int number) {
  const std::string text = TRY(sys::ReadFile(fmt::format("/proc/{}/stat", pid), kMaxStat));
  std::istringstream fields(text.substr(text.rfind(')') + 1));
  std::string field;
  for (int i = 3; i <= number; ++i) {
    fields >> field;
  }
  return field;
}

std::string EngineKey(const std::string& address, const std::string& engine_namespace) {
  return oci::DigestOf(fmt::format("{}\n{}", address, engine_namespace)).hex;
}

struct DaemonRecord {
  pid_t pid = 0;
  std::string started;
  std::string socket;
  std::string engine;
};

Result<DaemonRecord> ReadDaemonRecord(const std::string& path) {
  std::istringstream text(TRY(sys::ReadFile(path, kMaxRecord)));
  DaemonRecord record;
  if (!(text >> record.pid >> record.started) || record.pid <= 1) {
    return MakeError(ErrorCode::kNotFound, "{}: names no process", path);
  }
  text.ignore(1);
  std::getline(text, record.socket);
  std::getline(text, record.engine);
  return record;
}

}  // namespace

Result<std::string> ProcessStartTime(pid_t pid) { return StatField(pid, 22); }

Result<pid_t> ParentOf(pid_t pid) {
  const std::string parent = TRY(StatField(pid, 4));
  return static_cast<pid_t>(std::strtol(parent.c_str(), nullptr, 10));
}

EnginePod::EnginePod(const Config& config, const std::string& engine_address,
                     const std::string& engine_namespace, const std::string& pod_id,
                     const std::string& socket_dir) {
  const std::string key =
      oci::DigestOf(fmt::format("{}\n{}\n{}", engine_address, engine_namespace, pod_id)).hex;
  folder = fmt::format("{}/engine/{}", config.state_dir, key.substr(0, kFolderName));
  socket = fmt::format("{}/{}", socket_dir.empty() ? kContainerdSockets : socket_dir, key);
  engine_ = EngineKey(engine_address, engine_namespace);
}

EnginePod EnginePod::InFolder(std::string folder) {
  EnginePod pod;
  pod.socket = folder + "/shim.sock";
  pod.folder = std::move(folder);
  return pod;
}

Result<EnginePod> EnginePod::OfBundle(const std::string& bundle) {
  const std::string path = bundle + kRecord;
  std::istringstream record(TRY(sys::ReadFile(path, kMaxRecord)));
  EnginePod pod;
  if (!std::getline(record, pod.folder) || !std::getline(record, pod.socket) ||
      !pod.folder.starts_with('/') || !pod.socket.starts_with('/')) {
    return MakeError(ErrorCode::kInternal, "{}: damaged", path);
  }
  return pod;
}

std::vector<EnginePod> EnginePod::OfShims(const Config& config) {
  std::vector<EnginePod> pods;
  const std::string folders = config.state_dir + "/engine";
  for (const std::string& name : sys::ListDirectory(folders).value_or(std::vector<std::string>{})) {
    EnginePod pod = InFolder(fmt::format("{}/{}", folders, name));
    if (auto record = ReadDaemonRecord(pod.lock())) {
      pod.socket = std::move(record->socket);
      pod.engine_ = std::move(record->engine);
      pods.push_back(std::move(pod));
    }
  }
  return pods;
}

std::optional<EnginePod> EnginePod::OfDaemon(const Config& config,
                                             const std::string& engine_address,
                                             const std::string& engine_namespace, pid_t daemon) {
  const auto started = ProcessStartTime(daemon);
  for (EnginePod& pod : OfShims(config)) {
    const auto record = ReadDaemonRecord(pod.lock());
    if (record && record->pid == daemon && started && record->started == *started &&
        record->engine == EngineKey(engine_address, engine_namespace)) {
      return std::move(pod);
    }
  }
  return std::nullopt;
}

Status EnginePod::RecordIn(const std::string& bundle) const {
  return sys::WriteFileAtomically(bundle + kRecord, fmt::format("{}\n{}\n", folder, socket), 0600);
}

Result<UniqueFd> EnginePod::Lock(std::chrono::milliseconds patience) const {
  UniqueFd fd = TRY(sys::Open(lock(), O_RDWR));
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (!TRY(sys::LockFile(fd.get(), false))) {
    if (std::chrono::steady_clock::now() >= deadline) {
      return MakeError(ErrorCode::kUnavailable, "the pod's daemon still runs");
    }
    std::this_thread::sleep_for(kLockPause);
  }
  return fd;
}

Status EnginePod::RecordDaemon(pid_t pid) const {
  return sys::WriteFile(
      lock(), fmt::format("{} {}\n{}\n{}\n", pid, TRY(ProcessStartTime(pid)), socket, engine_));
}

Status EnginePod::KillDaemon() const {
  const DaemonRecord record = TRY(ReadDaemonRecord(lock()));
  const UniqueFd pidfd = TRY(sys::PidfdOpen(record.pid));
  if (TRY(ProcessStartTime(record.pid)) != record.started) {
    return MakeError(ErrorCode::kNotFound, "{}: process {} is another by now", lock(), record.pid);
  }
  return sys::PidfdSendSignal(pidfd.get(), SIGKILL);
}

Status EnginePod::Remove() const {
  (void)sys::Unlink(socket);
  return RemoveTree(folder);
}

}  // namespace bulkhead::shim
