#include "shim/engine_pod.h"

#include <fcntl.h>
#include <signal.h>

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

}  // namespace

Result<std::string> ProcessStartTime(pid_t pid) {
  const std::string text = TRY(sys::ReadFile(fmt::format("/proc/{}/stat", pid), kMaxStat));
  // Field 22; the second, the name in parentheses, may hold anything.
  std::istringstream fields(text.substr(text.rfind(')') + 1));
  std::string field;
  for (int i = 3; i <= 22; ++i) {
    fields >> field;
  }
  return field;
}

EnginePod::EnginePod(const Config& config, const std::string& engine_address,
                     const std::string& engine_namespace, const std::string& pod_id,
                     const std::string& socket_dir) {
  const std::string key =
      oci::DigestOf(fmt::format("{}\n{}\n{}", engine_address, engine_namespace, pod_id)).hex;
  folder = fmt::format("{}/engine/{}", config.state_dir, key.substr(0, kFolderName));
  socket = fmt::format("{}/{}", socket_dir.empty() ? kContainerdSockets : socket_dir, key);
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
  return sys::WriteFile(lock(), fmt::format("{} {}\n", pid, TRY(ProcessStartTime(pid))));
}

Status EnginePod::KillDaemon() const {
  std::istringstream record(TRY(sys::ReadFile(lock(), kMaxRecord)));
  pid_t pid = 0;
  std::string started;
  if (!(record >> pid >> started) || pid <= 1) {
    return MakeError(ErrorCode::kNotFound, "{}: names no process", lock());
  }
  const UniqueFd pidfd = TRY(sys::PidfdOpen(pid));
  if (TRY(ProcessStartTime(pid)) != started) {
    return MakeError(ErrorCode::kNotFound, "{}: process {} is another by now", lock(), pid);
  }
  return sys::PidfdSendSignal(pidfd.get(), SIGKILL);
}

Status EnginePod::Remove() const {
  (void)sys::Unlink(socket);
  return RemoveTree(folder);
}

}  // namespace bulkhead::shim
