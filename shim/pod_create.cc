// How a container, and a further process in one, comes to be.
#include <signal.h>

#include "base/sys.h"
#include "oci/spec_check.h"
#include "shim/pod.h"

namespace bulkhead::shim {
namespace {

constexpr size_t kMaxSpecBytes = 4U << 20U;

}  // namespace

Result<int> Pod::Create(const CreateOptions& options) {
  TRY(Reserve({options.id, ""}, options.bundle));
  const auto process = CreateInit(options);
  auto published = process ? Publish(*process) : tl::unexpected(process.error());
  if (!published) {
    if (process) {
      (void)(*process)->Delete([](const auto&) {});
    }
    Forget({options.id, ""});
    return tl::unexpected(Explain(std::move(published).error()));
  }
  events_.Created(options, **process);
  (*process)->Release();
  return (*process)->info().pid;
}

Result<oci::Spec> Pod::ReadSpec(const CreateOptions& options) const {
  const std::string path = options.bundle + "/config.json";
  oci::Spec spec = TRY(oci::ParseSpec(TRY(sys::ReadFile(path, kMaxSpecBytes))));
  if (!spec.process) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: process: missing", path);
  }
  TRY_AS(oci::CheckSpec(spec), "{}", path);
  for (const std::string& warning : spec.warnings) {
    logger_.Warning(fmt::format("{}: {}", path, warning));
  }
  if (!spec.hooks.empty() && !options_.client_runs_hooks) {
    return MakeError(ErrorCode::kUnimplemented, "{}: hooks: not supported here", path);
  }
  return spec;
}

Status Pod::CheckRole(const PodRole& role, const CreateOptions& options) const {
  if (role.kind != PodRole::Kind::kMember || !role.needs_sandbox) {
    return {};
  }
  const std::lock_guard lock(mutex_);
  if (!containers_.contains(role.sandbox_id)) {
    return MakeError(ErrorCode::kFailedPrecondition, "container {}: its sandbox {} is not here",
                     options.id, role.sandbox_id);
  }
  return {};
}

Result<std::shared_ptr<Process>> Pod::CreateInit(const CreateOptions& options) {
  oci::Spec spec = TRY(ReadSpec(options));
  const PodRole role = TRY(RoleOf(spec.annotations, options.id));
  TRY(CheckRole(role, options));
  if (options.stand_in) {
    TRY(AdoptStandIn({options.id, ""}, std::move(*options.stand_in)));
  } else if (options_.for_engine) {
    TRY(StartStandIn(options.id, spec));
  }
  if (role.kind != PodRole::Kind::kSandbox) {
    return CreateInGuest(options, role, std::move(spec));
  }
  const Sandbox sandbox = TRY(EnsureSandbox(spec, options.id));
  if (!spec.linux_.sysctl.empty()) {
    TRY(sandbox.agent->SetSysctls(spec.linux_.sysctl));  // after its network: eth0 has some, too
  }
  return std::make_shared<PauseProcess>(ProcessName{options.id, ""},
                                        ProcessInfo{PidOfStandIn({options.id, ""}), options.stdio},
                                        OnExit());
}

Result<std::shared_ptr<Process>> Pod::CreateInGuest(const CreateOptions& options,
                                                    const PodRole& role, oci::Spec spec) {
  if (!options_.log_path.empty() && !log_) {
    log_ = std::make_unique<ContainerLog>(options_.log_path);
    TRY(log_->Open());
  }
  auto relay = TRY(StdioRelay::Open(options.stdio, PolicyFor(options.id), log_.get(), logger_));
  const Sandbox sandbox = TRY(EnsureSandbox(spec, options.id));
  if (options_.for_engine) {
    const std::lock_guard lock(mutex_);
    if (containers_.size() == 1) {
      UsePodIpc(spec);
    }
  }
  TRY(TranslateNamespaces(
      spec, [this](int pid) { return OwnerOfStandIn(pid); }, NamespaceOnHost));
  TRY(TranslateSharedMemory(
      spec,
      [&](const std::string& source, const MemoryVolume& volume) {
        return SharedMemoryFor(options.id, role, source, volume);
      },
      options.mount_namespace ? options.mount_namespace->get() : -1));
  ForgetHostCpus(spec.linux_.resources);
  auto storage = TRY(AddStorage(options, sandbox, spec));
  timeline_.Mark("rootfs shared");
  const int created =
      TRY(storage.Explain(sandbox.agent->CreateContainer(CreateRequest(options, spec, storage))));
  timeline_.Mark("container created");
  {
    const std::lock_guard lock(mutex_);
    containers_[options.id].storage = std::move(storage);
  }
  const int stand_in = PidOfStandIn({options.id, ""});
  return std::make_shared<GuestProcess>(
      sandbox.agent, ProcessName{options.id, ""},
      ProcessInfo{stand_in != 0 ? stand_in : created, options.stdio, spec.process->terminal},
      std::move(relay), [this](Error error) { return Explain(std::move(error)); }, OnExit());
}

Result<std::string> Pod::SharedMemoryFor(const std::string& id, const PodRole& role,
                                         const std::string& source, const MemoryVolume& volume) {
  const std::lock_guard making(memory_mutex_);
  std::shared_ptr<GuestMemory> memory = memory_[volume.identity].lock();
  if (!memory) {
    memory = TRY_AS(
        GuestMemory::Make(TRY(RunningSandbox()).agent, std::to_string(++memory_count_), volume),
        "shared memory {}", source);
    memory_[volume.identity] = memory;
  }
  const std::lock_guard lock(mutex_);
  for (const std::string& holder : {id, role.sandbox_id}) {
    if (const auto container = containers_.find(holder); container != containers_.end()) {
      container->second.memory.push_back(memory);
    }
  }
  return memory->path();
}

StdioPolicy Pod::PolicyFor(const std::string& container_id) const {
  return {options_.for_engine, options_.engine_namespace, container_id, &spawner_, options_.fds};
}

Process::OnExit Pod::OnExit() {
  return [this](const Process& process, const Result<ProcessExit>& exit) {
    if (!exit && options_.for_engine) {  // another client is told the reason and says it itself
      logger_.Warning(
          fmt::format("container {}: {}", process.name().container_id, exit.error().message()));
    }
    events_.Exited(process, exit);
    TellStandIn(process, exit);
  };
}

Result<int> Pod::Exec(const ProcessName& name, const std::string& process_json,
                      const StdioPaths& stdio, const std::shared_ptr<StandIn::Link>& stand_in) {
  if (name.exec_id.empty()) {
    return MakeError(ErrorCode::kInvalidArgument, "an exec needs an id");
  }
  TRY(Reserve(name, ""));
  const int pid = stand_in ? stand_in->pid : 0;
  const Status adopted = stand_in ? AdoptStandIn(name, std::move(*stand_in)) : Status();
  const auto process =
      adopted ? CreateExec(name, process_json, stdio, pid) : tl::unexpected(adopted.error());
  auto published = process ? Publish(*process) : tl::unexpected(process.error());
  if (!published) {
    if (process) {
      (void)(*process)->Delete([](const auto&) {});
    }
    Forget(name);
    return tl::unexpected(Explain(std::move(published).error()));
  }
  events_.ExecAdded(name);
  (*process)->Release();
  return (*process)->info().pid;
}

Result<std::shared_ptr<Process>> Pod::CreateExec(const ProcessName& name,
                                                 const std::string& process_json,
                                                 const StdioPaths& stdio, int stand_in) {
  const auto init = TRY(Find({name.container_id, ""}));
  if (IsPause(*init)) {
    return MakeError(ErrorCode::kUnimplemented, "a pod's sandbox has no process to exec beside");
  }
  std::vector<std::string> warnings;
  const oci::Process process = TRY(oci::ParseProcess(process_json, &warnings));
  for (const std::string& warning : warnings) {
    logger_.Warning(fmt::format("exec {}: {}", name.exec_id, warning));
  }
  auto relay = TRY(StdioRelay::Open(stdio, PolicyFor(name.container_id), nullptr, logger_));
  const Sandbox sandbox = TRY(RunningSandbox());
  const int pid = TRY(sandbox.agent->ExecProcess(name, process_json, !stdio.in.empty()));
  return std::make_shared<GuestProcess>(
      sandbox.agent, name, ProcessInfo{stand_in != 0 ? stand_in : pid, stdio, process.terminal},
      std::move(relay), [this](Error error) { return Explain(std::move(error)); }, OnExit());
}

// Takes the name, so that two calls cannot make the same process.
Status Pod::Reserve(const ProcessName& name, const std::string& bundle) {
  const std::lock_guard lock(mutex_);
  if (shut_down_) {
    return MakeError(ErrorCode::kUnavailable, "the pod was shut down");
  }
  if (!name.exec_id.empty() && !containers_.contains(name.container_id)) {
    return MakeError(ErrorCode::kNotFound, "container {}: not found", name.container_id);
  }
  Container& container = containers_[name.container_id];
  if (!container.processes.emplace(name.exec_id, nullptr).second) {
    return MakeError(ErrorCode::kAlreadyExists, "{} {}: exists already",
                     name.exec_id.empty() ? "container" : "exec",
                     name.exec_id.empty() ? name.container_id : name.exec_id);
  }
  if (name.exec_id.empty()) {
    container.state.bundle = bundle;
  }
  return {};
}

// A process that was reserved is there for all.
Status Pod::Publish(const std::shared_ptr<Process>& process) {
  const std::string& exec_id = process->name().exec_id;
  std::optional<WindowSize> size;
  std::unique_lock lock(mutex_);
  const auto container = containers_.find(process->name().container_id);
  if (shut_down_ || vm_over_ || container == containers_.end()) {
    return MakeError(ErrorCode::kUnavailable, "the {} is gone",
                     shut_down_ || vm_over_ ? "pod" : "container");
  }
  const auto stand_in = container->second.stand_ins.find(exec_id);
  if (stand_in != container->second.stand_ins.end()) {
    if (stand_in->second->Ended()) {
      return MakeError(ErrorCode::kFailedPrecondition, "{}", kStandInEnded);
    }
    size = stand_in->second->size();
  }
  container->second.processes[exec_id] = process;
  lock.unlock();
  if (size) {  // told while it was being made
    (void)process->Resize(size->rows, size->columns);
  }
  return {};
}

}  // namespace bulkhead::shim
