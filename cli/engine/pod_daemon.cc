#include "cli/engine/pod_daemon.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "base/child.h"
#include "base/scope_guard.h"
#include "base/sys.h"
#include "shim/guest_spec.h"
#include "shim/host_namespaces.h"

namespace bulkhead::cli {
namespace {

constexpr std::chrono::seconds kKilled(10);

tl::unexpected<Error> Refused(const std::string& type, std::string_view what) {
  return MakeError(ErrorCode::kUnimplemented, "linux.namespaces: {}: {}", type, what);
}

const ContainerRecord* OwnerOf(const oci::Namespace& entry,
                               const std::vector<ContainerRecord>& alive,
                               const shim::NamespaceOf& namespace_of) {
  for (const ContainerRecord& record : alive) {
    const std::string prefix = fmt::format("/proc/{}/ns/", record.pid);
    if (entry.path.starts_with(prefix) ||
        (entry.type == "network" && namespace_of(entry.path) == namespace_of(prefix + "net"))) {
      return &record;
    }
  }
  return nullptr;
}

// The pod that an engine of Kubernetes names. The namespaces' files are those of its sandbox.
Result<std::optional<ContainerRecord>> FindPodOf(const shim::PodRole& role, const std::string& id,
                                                 const std::vector<ContainerRecord>& alive) {
  if (role.kind == shim::PodRole::Kind::kSandbox) {
    return std::nullopt;
  }
  const auto in_pod = [&](const ContainerRecord& record) {
    const auto other = shim::RoleOf(record.annotations, record.id);
    // Podman says nothing of a pod's first container.
    return record.id == role.sandbox_id || (other && other->sandbox_id == role.sandbox_id);
  };
  const auto found = std::find_if(alive.begin(), alive.end(), in_pod);
  if (found != alive.end()) {
    return *found;
  }
  if (role.needs_sandbox) {
    return MakeError(ErrorCode::kFailedPrecondition, "container {}: its sandbox {} does not run",
                     id, role.sandbox_id);
  }
  return std::nullopt;
}

}  // namespace

Result<std::optional<ContainerRecord>> FindPodToJoin(const oci::Spec& spec, const std::string& id,
                                                     const std::vector<ContainerRecord>& alive,
                                                     const shim::NamespaceOf& namespace_of) {
  TRY(shim::RefuseHostNetwork(spec, namespace_of));
  TRY(shim::RefuseHostProcesses(spec));
  const shim::PodRole role = TRY(shim::RoleOf(spec.annotations, id));
  if (role.kind != shim::PodRole::Kind::kAlone) {
    return FindPodOf(role, id, alive);
  }
  const ContainerRecord* found = nullptr;
  for (const oci::Namespace& entry : spec.linux_.namespaces) {
    const bool joins = entry.type == "network" || entry.type == "ipc" || entry.type == "pid" ||
                       entry.type == "uts" || entry.type == "user";
    if (!joins || entry.path.empty()) {
      continue;
    }
    const ContainerRecord* owner = OwnerOf(entry, alive, namespace_of);
    const bool of_another = entry.type != "network" && entry.type != "user";
    if (owner == nullptr && of_another) {
      return Refused(entry.type, fmt::format("{} belongs to no container in a virtual machine of "
                                             "ours, which alone could be joined",
                                             entry.path));
    }
    if (owner != nullptr && found != nullptr && owner->pod != found->pod) {
      return Refused(entry.type, fmt::format("containers {} and {} are in two virtual machines",
                                             owner->id, found->id));
    }
    found = owner != nullptr ? owner : found;
  }
  return found == nullptr ? std::nullopt : std::optional(*found);
}

Result<pid_t> StartPodDaemon(const shim::EnginePod& pod, const std::string& id,
                             const Config& config, const GlobalOptions& options) {
  TRY(sys::MkdirAll(pod.folder, 0700));
  ScopeGuard cleanup([&] { (void)pod.Remove(); });
  TRY(sys::WriteFile(pod.lock(), "", 0600));
  const UniqueFd lock = TRY(pod.Lock(std::chrono::seconds(0)));
  const UniqueFd socket = TRY(sys::ListenUnix(pod.socket, 0600));
  const UniqueFd fds = TRY(sys::ListenUnix(pod.fds_socket(), 0600));
  const UniqueFd log =
      TRY(sys::Open(pod.folder + "/daemon.log", O_WRONLY | O_CREAT | O_APPEND, 0600));
  SpawnOptions spawn;
  spawn.argv = {TRY(ProgramFolder()) + "/containerd-shim-bulkhead-v2",
                "serve",
                "--id=" + id,
                "--namespace=oci",
                "--pod-dir=" + pod.folder,
                "--socket=" + pod.socket,
                "--socket-fd=3",
                "--lock-fd=4",
                "--fds-socket-fd=5",
                "--auto-remove"};
  spawn.fds = {{socket.get(), 3}, {lock.get(), 4}, {fds.get(), 5}, {log.get(), STDERR_FILENO}};
  if (!config.source.empty()) {
    spawn.argv.push_back("--config=" + config.source);
  }
  if (options.debug) {
    spawn.argv.emplace_back("--debug");
  }
  spawn.death_signal = 0;
  spawn.new_session = true;
  Child daemon = TRY_AS(Child::Spawn(spawn), "start the pod's daemon");
  TRY(pod.RecordDaemon(daemon.pid()));
  cleanup.Dismiss();
  const pid_t pid = daemon.pid();
  daemon.Detach();
  return pid;
}

Status EndPodDaemon(const shim::EnginePod& pod, std::chrono::milliseconds patience) {
  auto lock = pod.Lock(patience);
  if (!lock && lock.error().code() == ErrorCode::kUnavailable) {
    (void)pod.KillDaemon();
    lock = pod.Lock(kKilled);
  }
  if (!lock && lock.error().code() != ErrorCode::kNotFound) {
    return tl::unexpected(lock.error());
  }
  return pod.Remove();
}

}  // namespace bulkhead::cli
