#include "cli/engine/container.h"

#include <fcntl.h>
#include <signal.h>

#include "base/scope_guard.h"
#include "base/sys.h"
#include "cli/engine/cgroup.h"
#include "cli/engine/hooks.h"
#include "cli/engine/pod_daemon.h"
#include "cli/pod_folder.h"
#include "shim/guest_spec.h"
#include "shim/network/tap_filters.h"

namespace bulkhead::cli {
namespace {

constexpr std::chrono::seconds kPodEnd(15);
constexpr std::chrono::seconds kKilled(15);
constexpr std::chrono::seconds kVmEnd(2);  // when it dies with its daemon
constexpr int kReadable = 1;               // POLLIN

tl::unexpected<Error> NotRunning(const std::string& id) {
  return MakeError(ErrorCode::kFailedPrecondition, "container not running: \"{}\"", id);
}

// Ends what runs in it, and waits for that.
Status KillAll(const Engine& engine, const ContainerRecord& record) {
  const auto pidfd = record.pid > 0 ? sys::PidfdOpen(record.pid) : Result<UniqueFd>(UniqueFd());
  const auto client = engine.Daemon(record);
  if (!StandInLives(record) || !pidfd) {
    if (client) {  // its death reaches the guest a moment later
      (void)(*client)->Wait("", kKilled);
    }
    return {};
  }
  if (client) {
    (void)(*client)->Resume();
    (void)(*client)->Kill("", SIGKILL, true);
  } else {
    (void)sys::PidfdSendSignal(pidfd->get(), SIGKILL);
  }
  if (!TRY(sys::PollOne(pidfd->get(), kReadable, kKilled))) {
    (void)sys::PidfdSendSignal(pidfd->get(), SIGKILL);  // its daemon hangs
  }
  return {};
}

// From now on nobody finds the pod by this container. The other one that does, if there is one.
Result<std::optional<ContainerRecord>> LeavePod(const Engine& engine, ContainerRecord record) {
  const UniqueFd lock = TRY(engine.Lock());
  const std::string pod = std::exchange(record.pod, "");
  TRY(engine.root().Save(record));
  for (const ContainerRecord& other : engine.root().List()) {
    if (other.pod == pod) {
      return other;
    }
  }
  return std::nullopt;
}

// What a daemon that was killed could not do.
void RestoreNetwork(const Engine& engine, const std::string& id) {
  const auto spec = engine.SpecOf(id);
  const Status restored =
      spec ? shim::RemoveStaleFilters(shim::HostNetworkOf(*spec).path, kVmEnd) : Status();
  if (!restored) {
    engine.context().Warn(restored.error().message());
  }
}

Status EndPod(const Engine& engine, const ContainerRecord& record) {
  if (record.pod.empty()) {
    return {};
  }
  const auto heir = TRY(LeavePod(engine, record));
  if (!heir) {
    if (const auto client = engine.Daemon(record)) {
      (void)(*client)->Shutdown();
    }
    TRY(EndPodDaemon(engine.root().PodOf(record.pod), kPodEnd));
    RestoreNetwork(engine, record.id);
  }
  const HostCgroup own = TRY(HostCgroup::Of(record.cgroups_path));
  if (!heir) {
    return own.Remove(nullptr);
  }
  const HostCgroup theirs = TRY(HostCgroup::Of(heir->cgroups_path));
  return own.Remove(&theirs);
}

}  // namespace

Result<Engine> Engine::Open(Context& context) { return Engine(context, TRY(context.LoadConfig())); }

Result<UniqueFd> Engine::Lock() const {
  TRY(sys::MkdirAll(config_.state_dir + "/containers", 0700));
  UniqueFd fd = TRY(sys::Open(config_.state_dir + "/containers.lock", O_RDWR | O_CREAT, 0600));
  TRY(sys::LockFile(fd.get(), true));
  return fd;
}

Result<std::unique_ptr<TaskClient>> Engine::Daemon(const ContainerRecord& record) const {
  if (record.pod.empty()) {
    return MakeError(ErrorCode::kNotFound, "container {} is in no pod", record.id);
  }
  return TaskClient::Connect(root_.PodOf(record.pod).socket, record.id);
}

Result<oci::Spec> Engine::SpecOf(const std::string& id) const {
  return oci::ParseSpec(TRY(sys::ReadFile(root_.SpecOf(id))));
}

Result<LiveState> StateOf(const Engine& engine, const ContainerRecord& record) {
  if (record.pid == 0) {
    return LiveState{"creating", 0};
  }
  const LiveState stopped{"stopped", 0};
  if (!StandInLives(record)) {
    return stopped;
  }
  const auto client = engine.Daemon(record);
  const auto state = client ? (*client)->State() : tl::unexpected(client.error());
  if (!state) {
    const bool creating = state.error().code() == ErrorCode::kNotFound && client;
    return creating ? LiveState{"creating", record.pid} : stopped;
  }
  switch (state->status) {
    case TaskStatus::kCreated:
      return LiveState{"created", record.pid};
    case TaskStatus::kRunning:
      return LiveState{"running", record.pid};
    case TaskStatus::kPaused:
      return LiveState{"paused", record.pid};
    case TaskStatus::kStopped:
      break;
  }
  return stopped;
}

Result<std::vector<pid_t>> StandInPids(const ContainerRecord& record) {
  std::vector<pid_t> pids;
  for (const pid_t pid : TRY(HostCgroup::Of(record.cgroups_path)).Pids()) {
    // The VM is counted there, too.
    const auto name = sys::ReadFile(fmt::format("/proc/{}/comm", pid));
    if (name && *name == std::string(shim::kStandInComm) + "\n") {
      pids.push_back(pid);
    }
  }
  return pids;
}

Status StartContainer(const Engine& engine, const std::string& id) {
  const ContainerRecord record = TRY(engine.root().Load(id));
  const LiveState state = TRY(StateOf(engine, record));
  if (state.status == "stopped") {
    return MakeError(ErrorCode::kFailedPrecondition, "cannot start a container that has stopped");
  }
  if (state.status != "created") {
    return MakeError(ErrorCode::kFailedPrecondition, "cannot start an already running container");
  }
  const oci::Spec spec = TRY(engine.SpecOf(id));
  const auto client = TRY(engine.Daemon(record));
  TRY(client->Start(""));
  const Status hooks =
      RunHooks(spec.hooks.poststart, "poststart", StateJson(record, "running", record.pid));
  if (!hooks) {
    (void)client->Kill("", SIGKILL, true);
  }
  return hooks;
}

Status KillContainer(const Engine& engine, const std::string& id, int signal, bool all) {
  const ContainerRecord record = TRY(engine.root().Load(id));
  const LiveState state = TRY(StateOf(engine, record));
  if (state.status == "stopped" || state.status == "creating") {
    return all ? Status() : NotRunning(id);
  }
  const auto client = TRY(engine.Daemon(record));
  const Status sent = client->Kill("", signal, all);
  if (!sent && sent.error().code() == ErrorCode::kNotFound) {
    return all ? Status() : NotRunning(id);
  }
  return sent;
}

Status DeleteContainer(const Engine& engine, const std::string& id, bool force) {
  const auto loaded = engine.root().Load(id);
  if (!loaded) {
    // Also what a `create` left that was killed in its first moment.
    const bool gone = loaded.error().code() == ErrorCode::kNotFound;
    return gone && force ? engine.root().Remove(id) : tl::unexpected(loaded.error());
  }
  const ContainerRecord& record = *loaded;
  const LiveState state = TRY(StateOf(engine, record));
  if (!force && state.status != "stopped" && state.status != "created") {
    return MakeError(ErrorCode::kFailedPrecondition,
                     "cannot delete container {} that is not stopped: {}", id, state.status);
  }
  TRY(KillAll(engine, record));
  if (const auto client = engine.Daemon(record)) {
    const Status deleted = (*client)->Delete("");
    if (!deleted && !force && deleted.error().code() != ErrorCode::kNotFound &&
        deleted.error().code() != ErrorCode::kUnavailable) {
      return deleted;
    }
  }
  TRY(EndPod(engine, record));
  Status hooks;
  if (const auto spec = engine.SpecOf(id)) {
    hooks = RunHooks(spec->hooks.poststop, "poststop", StateJson(record, "stopped", 0));
  }
  if (!hooks) {  // as the specification wants it: told, and no failure
    engine.context().Warn(hooks.error().message());
  }
  return engine.root().Remove(id);
}

Result<HostProcess> ExecInContainer(const Engine& engine, const ExecRequest& request) {
  const ContainerRecord record = TRY(engine.root().Load(request.id));
  const LiveState state = TRY(StateOf(engine, record));
  if (state.status == "stopped" || state.status == "creating") {
    return MakeError(ErrorCode::kFailedPrecondition, "cannot exec in a {} container",
                     state.status == "stopped" ? "stopped" : "half-made");
  }
  if (state.status == "paused" && !request.ignore_paused) {
    return MakeError(ErrorCode::kFailedPrecondition,
                     "cannot exec in a paused container (use --ignore-paused to override)");
  }
  if (!request.console_socket.empty() && !request.process.terminal) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "cannot use console socket if the process has no terminal");
  }
  const auto client = TRY(engine.Daemon(record));
  using Kind = shim::NetworkNamespace::Kind;
  HostProcess process =
      TRY(HostProcess::Start({Kind::kJoin, fmt::format("/proc/{}/ns/net", record.pid)},
                             TRY(HostCgroup::Of(record.cgroups_path)), request.process, "",
                             {request.console_socket, engine.context().options().was_open}));
  TRY(process.HandOver(engine.root().PodOf(record.pod), request.console_socket));
  const std::string exec_id = "exec-" + RandomHex(16);
  TRY(client->Exec(exec_id, oci::ProcessToJson(request.process), request.process.terminal,
                   process.stdio(), process.ref()));
  const Status started = client->Start(exec_id);
  if (!started) {
    (void)client->Delete(exec_id);
    return tl::unexpected(started.error());
  }
  TRY(WritePidFile(request.pid_file, process.pid()));
  return process;
}

}  // namespace bulkhead::cli
