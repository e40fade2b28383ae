#include "agent/container.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <cctype>
#include <cerrno>

#include "agent/namespaces.h"
#include "base/scope_guard.h"

namespace bulkhead::agent {
namespace {

constexpr size_t kMaxId = 200;
constexpr int kPipeBytes = 1 << 20;

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

bool JoinsUts(const NamespacePlan& plan) { return (plan.create & CLONE_NEWUTS) == 0; }

Status AddJoins(const NamespacePlan& plan, LaunchRequest& request) {
  for (const auto& join : plan.join) {
    request.join.push_back(TRY_AS(sys::Open(join.path, O_RDONLY), "linux.namespaces"));
    request.join_types.push_back(join.type);
  }
  return {};
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
                                                     const std::string& id, oci::Spec spec,
                                                     bool with_stdin) {
  if (!spec.process) {
    return MakeError(ErrorCode::kInvalidArgument, "config.json: process: missing");
  }
  if (!spec.root.path.starts_with('/')) {
    return MakeError(ErrorCode::kInvalidArgument, "config.json: root.path: must be absolute");
  }
  if (!spec.linux_.uid_mappings.empty() || !spec.linux_.gid_mappings.empty()) {
    return MakeError(ErrorCode::kUnimplemented, "linux.uidMappings: not supported");
  }
  const std::shared_ptr<Container> container(new Container(workshop, id));
  const NamespacePlan plan = TRY(PlanNamespaces(spec.linux_.namespaces));
  if (spec.linux_.seccomp) {
    container->seccomp_ = TRY(CompileSeccomp(*spec.linux_.seccomp));
    spec.linux_.seccomp.reset();
  }
  container->cgroup_ = std::make_shared<Cgroup>(TRY(Cgroup::Create(workshop.cgroup_root, id)));
  TRY(container->cgroup_->Apply(spec.linux_.resources, workshop.device_filter));
  container->spec_ = std::move(spec);

  LaunchRequest request;
  request.clone_flags = plan.create;
  request.new_cgroup = plan.new_cgroup;
  request.owns_uts = !JoinsUts(plan);
  request.spec = container->spec_;
  TRY(AddJoins(plan, request));
  container->init_ = std::make_shared<Process>("");
  TRY(container->Launch(request, container->init_, with_stdin));
  return container;
}

Container::~Container() {
  // The processes' exit callbacks hold the cgroup for a moment more; kill first.
  if (cgroup_) {
    static_cast<void>(cgroup_->Remove());
  }
}

Status Container::AddSeccomp(LaunchRequest& request) const {
  if (seccomp_) {
    request.seccomp_flags = seccomp_->flags;
    request.seccomp = TRY(SeccompFile(*seccomp_));
  }
  return {};
}

Status Container::PrepareLaunch(LaunchRequest& request, bool with_stdin, Stdio::Fds& ours) const {
  TRY(AddSeccomp(request));
  request.cgroup = TRY(request.is_exec ? cgroup_->ForExec(init_->pid()) : sys::Dup(cgroup_->fd()));
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

Status Container::Launch(LaunchRequest& request, const std::shared_ptr<Process>& process,
                         bool with_stdin) {
  Stdio::Fds ours;
  TRY(PrepareLaunch(request, with_stdin, ours));
  auto [sync, theirs] = TRY(sys::MakeSocketPair(SOCK_SEQPACKET));
  request.sync = std::move(theirs);
  const bool terminal = request.spec.process->terminal;
  process->SetOomBaseline(cgroup_->OomKills());
  std::optional<Reaper::Launch> launch(std::in_place, workshop_.reaper);
  TRY(workshop_.zygote.Launch(request));
  request = {};  // our copies of the child's fds
  if (auto status = Follow(sync.get(), process, ours, launch); !status) {
    launch.reset();
    if (process->pid() > 0) {
      static_cast<void>(process->Signal(SIGKILL));
      process->WaitForExit();
    }
    return status;
  }
  process->Ready(std::move(sync), Stdio::Create(workshop_.io, std::move(ours), terminal));
  return {};
}

// The reports of a process in the making, until it is ready.
Status Container::Follow(int sync, const std::shared_ptr<Process>& process, Stdio::Fds& ours,
                         std::optional<Reaper::Launch>& launch) {
  std::optional<Error> failure;
  bool ready = false;
  while (!(ready && process->pid() > 0)) {
    auto report = TRY(ReceiveReport(sync));
    if (!report) {
      break;
    }
    switch (report->kind) {
      case LaunchReport::Kind::kBorn:
        process->Born(report->pid, std::move(report->fds.at(0)));
        workshop_.reaper.Manage(report->pid, [process, cgroup = cgroup_](sys::Exit exit) {
          process->Exited(exit, cgroup->OomKills());
        });
        launch.reset();
        break;
      case LaunchReport::Kind::kTerminal:
        ours.out = std::move(report->fds.at(0));
        ours.in = TRY(sys::Dup(ours.out.get()));
        break;
      case LaunchReport::Kind::kReady:
        ready = true;
        break;
      case LaunchReport::Kind::kFailed:
        failure = std::move(report->error);
        break;
    }
  }
  if (failure) {
    return tl::unexpected<Error>(*failure);
  }
  if (!ready || process->pid() <= 0) {
    return MakeError(ErrorCode::kInternal, "the process ended before it was ready");
  }
  return {};
}

Result<std::shared_ptr<Process>> Container::Exec(const std::string& exec_id, oci::Process process,
                                                 bool with_stdin) {
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
  LaunchRequest request;
  request.is_exec = true;
  request.join.push_back(TRY(init_->Pidfd()));
  request.join_types.push_back(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS |
                               CLONE_NEWCGROUP | CLONE_NEWNET);
  request.spec.root.path = "/";
  request.spec.process = std::move(process);
  TRY(Launch(request, result, with_stdin));
  forget.Dismiss();
  return result;
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

Status Container::DeleteExec(const std::string& exec_id) {
  const auto process = TRY(Find(exec_id));
  TRY(process->MarkDeleted());
  const std::scoped_lock lock(mutex_);
  execs_.erase(exec_id);
  return {};
}

Status Container::Delete() {
  TRY(init_->MarkDeleted());
  return cgroup_->Remove();
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

Result<std::shared_ptr<Process>> Containers::Create(const std::string& id, oci::Spec spec,
                                                    bool with_stdin) {
  TRY(CheckContainerId(id));
  {
    const std::scoped_lock lock(mutex_);
    if (!containers_.emplace(id, nullptr).second) {
      return MakeError(ErrorCode::kAlreadyExists, "container {} exists already", id);
    }
  }
  auto container = Container::Create(workshop_, id, std::move(spec), with_stdin);
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
}

}  // namespace bulkhead::agent
