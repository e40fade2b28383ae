#include "agent/container.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <string_view>

#include "agent/birth.h"
#include "agent/sysctls.h"
#include "base/scope_guard.h"
#include "base/user_namespace.h"
#include "oci/id_mapping.h"

namespace bulkhead::agent {
namespace {

constexpr size_t kMaxId = 200;
constexpr auto kPauseTimeout = std::chrono::seconds(10);
constexpr int kPipeBytes = 1 << 20;
constexpr std::string_view kContainer = "container:";

Result<sys::Pipe> StdioPipe() {
  sys::Pipe pipe = TRY(sys::MakePipe());
  ::fcntl(pipe.write.get(), F_SETPIPE_SZ, kPipeBytes);  // best effort
  return pipe;
}

Result<UniqueFd> SeccompFile(const SeccompProgram& program) {
  UniqueFd file = TRY(sys::MemFd("seccomp"));
  TRY(sys::WriteAll(file.get(), program.filter));
  TRY(sys::CheckCall(::lseek(file.get(), 0, SEEK_SET), "lseek"));
  return file;
}

Status CheckSpec(const oci::Spec& spec) {
  if (!spec.process) {
    return MakeError(ErrorCode::kInvalidArgument, "config.json: process: missing");
  }
  if (!spec.root.path.starts_with('/')) {
    return MakeError(ErrorCode::kInvalidArgument, "config.json: root.path: must be absolute");
  }
  return {};
}

// What an exec does not name is as for the container's own process.
void Inherit(const oci::Process& init, oci::Process& process) {
  const auto fill = [](const auto& from, auto& to) {
    if (!to) {
      to = from;
    }
  };
  fill(init.scheduler, process.scheduler);
  fill(init.io_priority, process.io_priority);
  fill(init.exec_cpu_affinity, process.exec_cpu_affinity);
}

}  // namespace

Status CheckContainerId(const std::string& id) {
  const auto good = [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '.' || c == '+' || c == '-';
  };
  if (id.empty() || id.size() > kMaxId || !std::isalnum(static_cast<unsigned char>(id[0])) ||
      !std::all_of(id.begin(), id.end(), good)) {
    return MakeError(ErrorCode::kInvalidArgument, "bad container id \"{}\"", id.substr(0, kMaxId));
  }
  return {};
}

Result<std::shared_ptr<Container>> Container::Create(const Workshop& workshop,
                                                     ContainerRequest request, const Finder& find) {
  TRY(CheckSpec(request.spec));
  const NamespacePlan plan = TRY(PlanNamespaces(request.spec.linux_.namespaces));
  const std::shared_ptr<Container> container(new Container(workshop, request.id));
  TRY(container->huge_pages_.Set(request.spec.linux_.resources.hugepage_limits));
  if (auto& seccomp = request.spec.linux_.seccomp) {
    container->seccomp_ = TRY(CompileSeccomp(*seccomp));
    seccomp.reset();
  }
  container->has_drives_ = !request.drives.empty();
  container->drives_ = TRY(DriveMounts::Create(request.drives));
  if (request.upper) {
    container->upper_ =
        TRY_AS(WritableLayer::Create(request.id, *request.upper, request.spec), "rootfs.upper");
  }
  container->volumes_ = workshop.folders.Hold(request.spec.mounts);
  container->bundle_ = std::move(request.bundle);
  container->cgroup_ =
      std::make_shared<Cgroup>(TRY(Cgroup::Create(workshop.cgroup_root, request.id)));
  TRY(container->cgroup_->Apply(request.spec.linux_.resources, workshop.device_filter));
  container->oom_key_ = workshop.oom.Watch(request.id, container->cgroup_->path());
  container->spec_ = std::move(request.spec);
  TRY_AS(container->OpenUserNamespace(plan, find), "linux.namespaces: user");
  TRY(container->LaunchInit(plan, find, request.with_stdin));
  return container;
}

Container::~Container() {
  workshop_.oom.Forget(oom_key_);
  // The processes' exit callbacks hold the cgroup for a moment more; kill first.
  if (cgroup_) {
    static_cast<void>(cgroup_->Remove());
  }
}

Status Container::OpenUserNamespace(const NamespacePlan& plan, const Finder& find) {
  if (!plan.user) {
    return {};
  }
  oci::Linux& section = spec_.linux_;
  const std::string& path = *plan.user;
  if (path.starts_with(kContainer)) {
    const auto other = TRY(find(path.substr(kContainer.size())));
    if (!other->user_namespace_.valid()) {
      return {};
    }
    section.uid_mappings = other->spec_.linux_.uid_mappings;
    section.gid_mappings = other->spec_.linux_.gid_mappings;
    user_namespace_ = TRY(sys::Dup(other->user_namespace_.get()));
  }
  const auto uid = oci::OutsideId(section.uid_mappings, 0);
  const auto gid = oci::OutsideId(section.gid_mappings, 0);
  if (!uid || !gid) {
    return MakeError(ErrorCode::kInvalidArgument, "root (0) is not mapped");
  }
  if (path == "pod") {
    user_namespace_ = TRY(workshop_.pod_users.Enter(section));
  } else if (path.empty()) {
    user_namespace_ = TRY(
        MakeUserNamespace(oci::MapText(section.uid_mappings), oci::MapText(section.gid_mappings)));
  } else if (!user_namespace_.valid()) {
    return MakeError(ErrorCode::kInvalidArgument, "bad path \"{}\"", path);
  }
  OpenNetworkToUsers();
  return cgroup_->Delegate(*uid, *gid);
}

Status Container::LaunchInit(const NamespacePlan& plan, const Finder& find, bool with_stdin) {
  LaunchRequest request;
  request.clone_flags = plan.create;
  request.new_cgroup = plan.new_cgroup;
  request.owns_uts = (plan.create & CLONE_NEWUTS) != 0;
  request.spec = spec_;
  TRY(AddJoins(plan, find, request));
  owns_pids_ = (plan.create & CLONE_NEWPID) != 0;
  init_ = std::make_shared<Process>("");
  return Launch(std::move(request), init_, with_stdin);
}

Status Container::AddJoins(const NamespacePlan& plan, const Finder& find,
                           LaunchRequest& request) const {
  for (const auto& [type, path] : plan.join) {
    const auto open = [&, type = type, path = path]() -> Result<UniqueFd> {
      if (type == CLONE_NEWPID && path == "pod") {
        return workshop_.pod_pid.Enter(user_namespace_);
      }
      if (type == CLONE_NEWPID && path.starts_with(kContainer)) {
        return TRY(find(path.substr(kContainer.size())))->InitPidfd();
      }
      return sys::Open(path, O_RDONLY);
    };
    request.join.push_back(TRY_AS(open(), "linux.namespaces"));
    request.join_types.push_back(type);
  }
  return request.JoinUserNamespace(user_namespace_);
}

Status Container::AddSeccomp(LaunchRequest& request) const {
  if (seccomp_) {
    request.seccomp_flags = seccomp_->flags;
    request.seccomp = TRY(SeccompFile(*seccomp_));
  }
  return {};
}

Status Container::Confine(LaunchRequest& request) const {
  TRY(AddSeccomp(request));
  request.cgroup = TRY(request.kind == LaunchKind::kExec ? cgroup_->ForExec(init_->pid())
                                                         : sys::Dup(cgroup_->fd()));
  return {};
}

Status Container::PrepareLaunch(LaunchRequest& request, bool with_stdin, Stdio::Fds& ours) const {
  TRY(Confine(request));
  if (request.spec.process->terminal) {
    return {};
  }
  if (with_stdin) {
    auto [read, write] = TRY(StdioPipe());
    request.stdin_fd = std::move(read);
    ours.in = std::move(write);
  } else {
    request.stdin_fd = TRY(sys::Open("/dev/null", O_RDONLY));
  }
  auto [out_read, out_write] = TRY(StdioPipe());
  auto [err_read, err_write] = TRY(StdioPipe());
  ours.out = std::move(out_read);
  ours.err = std::move(err_read);
  request.stdout_fd = std::move(out_write);
  request.stderr_fd = std::move(err_write);
  return {};
}

Status Container::Launch(LaunchRequest request, const std::shared_ptr<Process>& process,
                         bool with_stdin) {
  Stdio::Fds ours;
  TRY(PrepareLaunch(request, with_stdin, ours));
  const bool terminal = request.spec.process->terminal;
  const bool leads = request.kind == LaunchKind::kInit && !owns_pids_;
  process->SetOomBaseline(cgroup_->OomKills());
  Newborn born = TRY(MakeProcess(
      workshop_.zygote, workshop_.reaper, std::move(request), process,
      [process, cgroup = cgroup_, key = oom_key_, leads, &oom = workshop_.oom](sys::Exit exit) {
        if (leads) {
          static_cast<void>(cgroup->Kill());  // the kernel does it where init has pid 1
        }
        oom.Check(key);
        process->Exited(exit, cgroup->OomKills());
      }));
  if (born.terminal) {
    ours.in = TRY(sys::Dup(born.terminal.get()));
    ours.out = std::move(born.terminal);
  }
  process->Ready(std::move(born.sync), Stdio::Create(workshop_.io, std::move(ours), terminal));
  return {};
}

Result<std::shared_ptr<Process>> Container::Exec(const std::string& exec_id, oci::Process process,
                                                 bool with_stdin) {
  Inherit(*spec_.process, process);
  const NotPaused not_paused = TRY(StayUnpaused());
  auto result = std::make_shared<Process>(exec_id);
  {
    const std::scoped_lock lock(mutex_);
    if (exec_id.empty() || !execs_.emplace(exec_id, result).second) {
      return MakeError(ErrorCode::kAlreadyExists, "exec \"{}\" exists already", exec_id);
    }
  }
  ScopeGuard forget([&] {
    const std::scoped_lock lock(mutex_);
    execs_.erase(exec_id);
  });
  TRY(Launch(TRY(ExecRequest(std::move(process))), result, with_stdin));
  forget.Dismiss();
  return result;
}

Result<LaunchRequest> Container::ExecRequest(oci::Process process) const {
  LaunchRequest request;
  request.kind = LaunchKind::kExec;
  request.join.push_back(TRY(init_->Pidfd()));
  request.join_types.push_back(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS |
                               CLONE_NEWCGROUP | CLONE_NEWNET | CLONE_NEWTIME);
  if (user_namespace_.valid()) {
    request.join_types.back() |= CLONE_NEWUSER;
    request.spec.linux_.uid_mappings = spec_.linux_.uid_mappings;
    request.spec.linux_.gid_mappings = spec_.linux_.gid_mappings;
  }
  request.spec.root.path = "/";
  request.spec.linux_.personality = spec_.linux_.personality;
  request.spec.process = std::move(process);
  return request;
}

Result<std::shared_ptr<Process>> Container::Find(const std::string& exec_id) const {
  if (exec_id.empty()) {
    return init_;
  }
  const std::scoped_lock lock(mutex_);
  const auto found = execs_.find(exec_id);
  if (found == execs_.end()) {
    return MakeError(ErrorCode::kNotFound, "container {} has no exec \"{}\"", id_, exec_id);
  }
  return found->second;
}

Status Container::SignalAll(int signal) const {
  return signal == SIGKILL ? cgroup_->Kill() : cgroup_->Signal(signal);
}

Result<Container::NotPaused> Container::StayUnpaused() {
  NotPaused lock(pause_mutex_, kPauseTimeout);
  if (!lock || paused_) {
    return MakeError(ErrorCode::kFailedPrecondition, "container {} is paused", id_);
  }
  return lock;
}

Status Container::Start(const std::string& exec_id) {
  const NotPaused not_paused = TRY(StayUnpaused());
  const auto process = TRY(Find(exec_id));
  if (exec_id.empty() && process->state() == ProcessState::kCreated) {
    TRY(RunStartHooks());
  }
  return process->Start();
}

Status Container::Freeze(bool frozen) {
  const std::unique_lock lock(pause_mutex_, kPauseTimeout);
  if (!lock) {
    return MakeError(ErrorCode::kDeadlineExceeded, "container {}: an exec is under way", id_);
  }
  TRY(init_->Pidfd());  // else there is nothing to pause
  TRY(cgroup_->Freeze(frozen));
  paused_ = frozen;
  return {};
}

Status Container::Pause() { return Freeze(true); }

Status Container::Resume() { return Freeze(false); }

Status Container::Update(const oci::Resources& resources) {
  TRY(huge_pages_.Set(resources.hugepage_limits));
  const std::scoped_lock lock(update_mutex_);
  oci::Resources& current = spec_.linux_.resources;
  const oci::Resources update = CompleteUpdate(current, resources);
  TRY(cgroup_->Update(update));
  RememberUpdate(update, current);
  return {};
}

Status Container::DeleteExec(const std::string& exec_id) {
  const auto process = TRY(Find(exec_id));
  TRY(process->MarkDeleted());
  const std::scoped_lock lock(mutex_);
  execs_.erase(exec_id);
  return {};
}

Status Container::Delete() {
  TRY(init_->MarkDeleted());
  return TearDown();
}

Status Container::TearDown() {
  const std::scoped_lock lock(tear_down_mutex_);
  TRY(cgroup_->Remove());
  volumes_.clear();
  upper_.Unmount();
  drives_.Unmount();
  return {};
}

void Container::ReleaseDrives() {
  if (has_drives_) {
    static_cast<void>(TearDown());
  }
}

std::string Container::ExecIdOf(pid_t pid) const {
  const std::scoped_lock lock(mutex_);
  for (const auto& [exec_id, process] : execs_) {
    if (process->pid() == pid) {
      return exec_id;
    }
  }
  return {};
}

Result<std::shared_ptr<Process>> Containers::Create(ContainerRequest request) {
  const std::string id = request.id;
  TRY(CheckContainerId(id));
  {
    const std::scoped_lock lock(mutex_);
    if (!containers_.emplace(id, nullptr).second) {
      return MakeError(ErrorCode::kAlreadyExists, "container {} exists already", id);
    }
  }
  auto container = Container::Create(workshop_, std::move(request),
                                     [this](const std::string& other) { return Find(other); });
  const std::scoped_lock lock(mutex_);
  if (!container) {
    containers_.erase(id);
    return tl::unexpected<Error>(std::move(container).error());
  }
  containers_[id] = *container;
  return (*container)->Find("");
}

Result<std::shared_ptr<Container>> Containers::Find(const std::string& id) const {
  const std::scoped_lock lock(mutex_);
  const auto found = containers_.find(id);
  if (found == containers_.end() || found->second == nullptr) {
    return MakeError(ErrorCode::kNotFound, "no container {}", id.substr(0, kMaxId));
  }
  return found->second;
}

Status Containers::Delete(const std::string& id) {
  const auto container = TRY(Find(id));
  TRY(container->Delete());
  const std::scoped_lock lock(mutex_);
  containers_.erase(id);
  return {};
}

void Containers::KillAll() {
  std::map<std::string, std::shared_ptr<Container>> all;
  {
    const std::scoped_lock lock(mutex_);
    all = containers_;
  }
  for (const auto& [id, container] : all) {
    if (container != nullptr) {
      static_cast<void>(container->SignalAll(SIGKILL));
    }
  }
  workshop_.pod_pid.End();
  for (const auto& [id, container] : all) {
    if (container != nullptr) {
      container->ReleaseDrives();
    }
  }
}

}  // namespace bulkhead::agent
