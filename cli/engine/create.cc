// How a container comes to be; each step undoes itself when a later one fails.
#include <unistd.h>

#include <climits>
#include <cstdlib>

#include "base/log.h"
#include "base/scope_guard.h"
#include "base/sys.h"
#include "cli/engine/container.h"
#include "cli/engine/hooks.h"
#include "cli/engine/pod_daemon.h"
#include "cli/pod_folder.h"
#include "oci/spec_check.h"
#include "shim/guest_spec.h"

namespace bulkhead::cli {
namespace {

constexpr size_t kMaxSpecBytes = 4U << 20U;
constexpr size_t kPodKeyDigits = 16;

Result<std::string> RealPath(const std::string& path) {
  char resolved[PATH_MAX];
  if (::realpath(path.c_str(), resolved) == nullptr) {
    return MakeErrno(sys::LastErrno(), "{}", path);
  }
  return std::string(resolved);
}

class Creation {
 public:
  Creation(const Engine& engine, const CreateRequest& request)
      : engine_(engine), request_(request) {}

  Result<HostProcess> Run() {
    TRY(ReadBundle());
    TRY(engine_.root().Reserve(request_.id));
    auto process = Make();
    if (!process) {
      Undo();
    }
    return process;
  }

 private:
  Status ReadBundle();
  Status CheckSpec() const;
  Result<HostProcess> Make();
  Status EnterPod();
  Status StartInPod(HostProcess& process);
  Status RunCreationHooks(const HostProcess& process);
  void Undo();

  const Engine& engine_;
  const CreateRequest& request_;
  std::string json_;
  oci::Spec spec_;
  ContainerRecord record_;
  std::optional<HostCgroup> cgroup_;
  bool new_pod_ = false;
};

Status Creation::ReadBundle() {
  record_.id = request_.id;
  record_.bundle = TRY_AS(RealPath(request_.bundle.empty() ? "." : request_.bundle), "--bundle");
  const std::string path = record_.bundle + "/config.json";
  json_ = TRY(sys::ReadFile(path, kMaxSpecBytes));
  spec_ = TRY_AS(oci::ParseSpec(json_), "{}", record_.bundle);
  TRY_AS(CheckSpec(), "{}", path);
  engine_.context().WarnAll(path, spec_.warnings);
  const std::string& root = spec_.root.path;
  record_.rootfs = root.starts_with('/') ? root : record_.bundle + "/" + root;
  record_.version = spec_.version;
  record_.created = UtcNow(9);
  record_.annotations = spec_.annotations;
  record_.systemd_cgroup = engine_.context().options().systemd_cgroup;
  record_.cgroups_path =
      TRY(CgroupPathOf(spec_.linux_.cgroups_path, request_.id, record_.systemd_cgroup));
  return {};
}

Status Creation::CheckSpec() const {
  if (!spec_.process) {
    return MakeError(ErrorCode::kInvalidArgument, "process: missing");
  }
  TRY(oci::CheckSpec(spec_));
  if (spec_.process->terminal && request_.console_socket.empty()) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "cannot allocate tty if runc will detach without setting console socket");
  }
  if (!spec_.process->terminal && !request_.console_socket.empty()) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "cannot use console socket if runc will not detach or allocate tty");
  }
  return {};
}

// Decides which pod it is in, and says so where others look.
Status Creation::EnterPod() {
  const UniqueFd lock = TRY(engine_.Lock());
  std::vector<ContainerRecord> alive = engine_.root().List();
  std::erase_if(alive, [](const ContainerRecord& record) {
    return record.pod.empty() || !StandInLives(record);
  });
  const auto joined = TRY(FindPodToJoin(spec_, request_.id, alive, shim::NamespaceOnHost));
  new_pod_ = !joined;
  record_.pod = joined ? joined->pod : RandomHex(kPodKeyDigits);
  return engine_.root().Save(record_);
}

Result<HostProcess> Creation::Make() {
  TRY(sys::WriteFile(engine_.root().SpecOf(request_.id), json_, 0600));
  TRY(EnterPod());
  cgroup_ = TRY(HostCgroup::Of(record_.cgroups_path));
  TRY(cgroup_->Create());
  HostProcess process =
      TRY(HostProcess::Start(shim::HostNetworkOf(spec_), *cgroup_, *spec_.process, record_.bundle,
                             {request_.console_socket, engine_.context().options().was_open}));
  record_.pid = process.pid();
  record_.started = TRY(shim::ProcessStartTime(process.pid()));
  TRY(engine_.root().Save(record_));
  TRY(RunCreationHooks(process));
  TRY(StartInPod(process));
  TRY(WritePidFile(request_.pid_file, process.pid()));
  return process;
}

// Networks of engines appear here: it comes before the VM looks for them.
Status Creation::RunCreationHooks(const HostProcess& process) {
  const std::string state = StateJson(record_, "creating", process.pid());
  TRY(RunHooks(spec_.hooks.prestart, "prestart", state));
  TRY(RunHooks(spec_.hooks.create_runtime, "createRuntime", state));
  return RunHooks(spec_.hooks.create_container, "createContainer", state,
                  fmt::format("/proc/{}/ns/net", process.pid()));
}

Status Creation::StartInPod(HostProcess& process) {
  const shim::EnginePod pod = engine_.root().PodOf(record_.pod);
  if (new_pod_) {
    const pid_t daemon =
        TRY(StartPodDaemon(pod, request_.id, engine_.config(), engine_.context().options()));
    TRY(cgroup_->Add(daemon));  // and with it the VM
  }
  TRY(process.HandOver(pod, request_.console_socket));
  const auto client = TRY(engine_.Daemon(record_));
  return client->Create(record_.bundle, spec_.process->terminal, process.stdio(), process.ref());
}

// The stand-in is gone by now: it died with its owner.
void Creation::Undo() {
  const Status undone = DeleteContainer(engine_, request_.id, true);
  if (!undone) {
    engine_.context().Warn("what was made of container " + request_.id +
                           " stays: " + undone.error().message());
  }
}

}  // namespace

Result<HostProcess> CreateContainer(const Engine& engine, const CreateRequest& request) {
  return Creation(engine, request).Run();
}

}  // namespace bulkhead::cli
