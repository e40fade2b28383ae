#include "shim/pod.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>

#include <algorithm>
#include <array>

#include "base/scope_guard.h"
#include "base/sys.h"

namespace bulkhead::shim {
namespace {

constexpr std::chrono::milliseconds kShutdownTimeout(3000);
constexpr std::chrono::milliseconds kEventPause(50);
constexpr size_t kMaxSpecBytes = 4U << 20U;
constexpr uint64_t kMemoryStep = 2U << 20U;
constexpr char kStandInEnded[] = "the process that stands for it on the host was killed";

bool IsPause(const Process& process) {
  return dynamic_cast<const PauseProcess*>(&process) != nullptr;
}

}  // namespace

ProcessExit ExitOr137(const Result<ProcessExit>& exit) {
  if (exit) {
    return *exit;
  }
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return {137, 9, std::chrono::nanoseconds(now).count(), false};
}

Pod::Pod(Config config, PodOptions options, SpawnThread& spawner, Logger& logger, PodEvents& events)
    : config_(std::move(config)),
      options_(std::move(options)),
      spawner_(spawner),
      logger_(logger),
      events_(events) {}

Pod::~Pod() { Shutdown(); }

Result<int> Pod::Create(const CreateOptions& options) {
  TRY(Reserve({options.id, ""}, options.bundle));
  const auto process = CreateInit(options);
  auto published = process ? Publish(*process) : tl::unexpected(process.error());
  if (!published) {
    if (process) {
      (void)(*process)->Delete([](const auto&) {});
      shared_->RemoveContainer(options.id);
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
  return spec;
}

Status Pod::CheckRole(const PodRole& role, const CreateOptions& options) const {
  if (role.kind != PodRole::Kind::kMember) {
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
  const PodRole role = TRY(RoleOf(spec, options.id));
  TRY(CheckRole(role, options));
  if (options_.for_engine) {
    TRY(AddStandIn(options.id, spec));
  }
  if (role.kind != PodRole::Kind::kSandbox) {
    return CreateInGuest(options, role, std::move(spec));
  }
  TRY(EnsureSandbox(spec, options.id));
  const std::lock_guard lock(mutex_);
  const auto& stand_in = containers_[options.id].stand_in;
  return std::make_shared<PauseProcess>(ProcessName{options.id, ""},
                                        ProcessInfo{stand_in ? stand_in->pid() : 0, options.stdio},
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
  TRY(TranslateNamespaces(spec, [this](int pid) { return OwnerOfStandIn(pid); }));
  TRY(TranslateSharedMemory(spec, role));
  ForgetHostCpus(spec.linux_.resources);
  auto drive = TRY(AddStorage(options, sandbox, spec));
  ScopeGuard unshare([&] { shared_->RemoveContainer(options.id); });
  timeline_.Mark("rootfs shared");
  std::vector<pb::Drive> drives;
  if (drive) {
    drives.push_back(drive->description());
  }
  const auto created = sandbox.agent->CreateContainer(options.id, oci::SpecToJson(spec),
                                                      !options.stdio.in.empty(), drives);
  if (!created) {
    return tl::unexpected(drive ? drive->Explain(created.error()) : created.error());
  }
  timeline_.Mark("container created");
  unshare.Dismiss();
  int pid = *created;
  {
    const std::lock_guard lock(mutex_);
    Container& container = containers_[options.id];
    container.drive = std::move(drive);
    if (container.stand_in) {
      pid = container.stand_in->pid();
    }
  }
  return std::make_shared<GuestProcess>(
      sandbox.agent, ProcessName{options.id, ""},
      ProcessInfo{pid, options.stdio, spec.process->terminal}, std::move(relay),
      [this](Error error) { return Explain(std::move(error)); }, OnExit());
}

Result<std::optional<RootDrive>> Pod::AddStorage(const CreateOptions& options,
                                                 const Sandbox& sandbox, oci::Spec& spec) {
  if (!IsRootDrive(options.rootfs)) {
    const std::string& path = spec.root.path;
    const std::string rootfs = path.starts_with('/') ? path : options.bundle + "/" + path;
    TRY(shared_->AddContainer(options.id, options.rootfs, rootfs, spec));
    return std::nullopt;
  }
  std::string serial;
  {
    const std::lock_guard lock(mutex_);
    serial = fmt::format("drive-{}", ++drive_count_);
  }
  RootDrive drive = TRY(RootDrive::Attach(sandbox.vm, options.rootfs[0], serial));
  spec.root.path = drive.description().mount_point();
  TRY(shared_->AddContainer(options.id, {}, "", spec));
  return drive;
}

Status Pod::AddStandIn(const std::string& id, const oci::Spec& spec) {
  const std::string program = TRY(sys::ReadLink("/proc/self/exe"));
  auto stand_in =
      TRY(StandIn::Start(spawner_, program, HostNetworkOf(spec), [this, id] { OnStandInEnd(id); }));
  const std::lock_guard lock(mutex_);
  containers_[id].stand_in = std::move(stand_in);
  return {};
}

// Whoever kills the pid that the engine tells means the container.
void Pod::OnStandInEnd(const std::string& id) {
  const auto init = Find({id, ""});
  if (init && (*init)->state() != ProcessState::kStopped) {
    logger_.Warning(fmt::format("container {}: {}", id, kStandInEnded));
    (void)(*init)->Signal(SIGKILL, true);
  }
}

std::optional<std::string> Pod::OwnerOfStandIn(int pid) const {
  const std::lock_guard lock(mutex_);
  for (const auto& [id, container] : containers_) {
    if (container.stand_in && container.stand_in->pid() == pid) {
      const auto init = container.processes.find("");
      const bool pause =
          init != container.processes.end() && init->second && IsPause(*init->second);
      return pause ? "" : id;
    }
  }
  return std::nullopt;
}

StdioPolicy Pod::PolicyFor(const std::string& container_id) const {
  return {options_.for_engine, options_.engine_namespace, container_id, &spawner_};
}

Process::OnExit Pod::OnExit() {
  return [this](const Process& process, const Result<ProcessExit>& exit) {
    if (!exit && options_.for_engine) {  // another client is told the reason and says it itself
      logger_.Warning(
          fmt::format("container {}: {}", process.name().container_id, exit.error().message()));
    }
    events_.Exited(process, exit);
  };
}

Result<SandboxRequest> Pod::SizeSandbox(const Config& config, const oci::Spec& spec) const {
  const PodSize size = TRY(SizeOf(spec));
  SandboxRequest request;
  request.name = options_.id;
  request.hostname = spec.hostname.empty() ? "bulkhead" : spec.hostname;
  request.vcpus = size.vcpus.value_or(config.vcpus);
  request.memory_bytes =
      size.memory_bytes ? *size.memory_bytes + config.memory_overhead_bytes : config.memory_bytes;
  request.memory_bytes = (request.memory_bytes + kMemoryStep - 1) / kMemoryStep * kMemoryStep;
  request.hotplug_slots = options_.for_engine ? config.hotplug_slots : 0;
  request.shared_path = options_.folder + "/shared";
  request.runtime_dir = options_.folder;
  return request;
}

Result<Sandbox> Pod::RunningSandbox() const {
  const std::lock_guard lock(mutex_);
  if (!sandbox_.agent) {
    return MakeError(ErrorCode::kFailedPrecondition, "the pod has no virtual machine yet");
  }
  return sandbox_;
}

Result<Sandbox> Pod::EnsureSandbox(const oci::Spec& spec, const std::string& id) {
  const std::lock_guard booting(boot_mutex_);
  if (auto running = RunningSandbox()) {
    return running;
  }
  Sandbox sandbox = TRY(BootSandbox(spec, id));
  stop_watching_ = TRY(sys::EventFd());
  const std::lock_guard lock(mutex_);
  if (shut_down_) {
    return MakeError(ErrorCode::kUnavailable, "the pod was shut down");
  }
  sandbox_ = sandbox;
  vm_watch_ = std::thread([this] { WatchVm(); });
  event_reader_ = std::thread([this] { ReadEvents(); });
  return sandbox;
}

Status Pod::OpenNetwork(const oci::Spec& spec, const std::string& id) {
  if (!options_.for_engine || HostNetworkOf(spec).kind == NetworkNamespace::Kind::kHost) {
    return {};
  }
  int pid = 0;
  {
    const std::lock_guard lock(mutex_);
    pid = containers_[id].stand_in->pid();
  }
  UniqueFd netns = TRY(sys::Open(fmt::format("/proc/{}/ns/net", pid), O_RDONLY));
  auto network = PodNetwork::Open(std::move(netns), logger_);
  if (!network && network.error().code() == ErrorCode::kInvalidArgument) {
    logger_.Warning(network.error().message());
    return {};
  }
  network_ = TRY(std::move(network));
  return {};
}

Status Pod::RefreshNetwork(const Sandbox& sandbox) {
  const std::lock_guard lock(network_mutex_);
  if (!network_) {
    return {};
  }
  return sandbox.agent->SetNetwork(TRY(network_->Refresh(*sandbox.vm)));
}

Result<Sandbox> Pod::BootSandbox(const oci::Spec& spec, const std::string& id) {
  const Config config = TRY(ApplyAnnotations(config_, spec.annotations));
  SandboxRequest request = TRY(SizeSandbox(config, spec));
  TRY(OpenNetwork(spec, id));
  if (network_) {
    request.nics = [this] { return network_->BootNics(); };
  }
  if (!shared_) {
    TRY(sys::MkdirAll(request.shared_path, 0700));
    shared_.emplace(TRY(SharedTree::Create(request.shared_path)));
  }
  Sandbox sandbox =
      TRY(StartSandbox(config, request, {spawner_, logger_, timeline_}, options_.debug));
  TRY(RefreshNetwork(sandbox));
  return sandbox;
}

// Processes in the guest notice its end by themselves; the pod's own pause does not.
void Pod::WatchVm() {
  const Sandbox sandbox = *RunningSandbox();
  std::array<pollfd, 2> events{pollfd{sandbox.vm->exit_fd(), POLLIN, 0},
                               pollfd{stop_watching_.get(), POLLIN, 0}};
  while (::poll(events.data(), events.size(), -1) <= 0) {
  }
  std::vector<std::shared_ptr<Process>> inits;
  {
    const std::lock_guard lock(mutex_);
    vm_over_ = true;
    for (const auto& [id, container] : containers_) {
      if (const auto init = container.processes.find(""); init != container.processes.end()) {
        inits.push_back(init->second);
      }
    }
  }
  const Error error = Explain({ErrorCode::kUnavailable, "the pod was shut down"});
  for (const auto& init : inits) {
    if (auto* pause = dynamic_cast<PauseProcess*>(init.get())) {
      pause->End(error);
    }
  }
}

void Pod::ReadEvents() {
  const auto stream = RunningSandbox()->agent->OpenEvents(events_context_);
  pb::Event event;
  while (stream->Read(&event)) {
    if (event.kind() == pb::Event::OOM && StateOf(event.container_id())) {
      events_.Oom(event.container_id());
      // A guest that cries without end shall not drown the engine.
      std::this_thread::sleep_for(kEventPause);
    }
  }
}

Result<int> Pod::Exec(const ProcessName& name, const std::string& process_json,
                      const StdioPaths& stdio) {
  if (name.exec_id.empty()) {
    return MakeError(ErrorCode::kInvalidArgument, "an exec needs an id");
  }
  TRY(Reserve(name, ""));
  const auto process = CreateExec(name, process_json, stdio);
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
                                                 const StdioPaths& stdio) {
  const auto init = TRY(Find({name.container_id, ""}));
  if (IsPause(*init)) {
    return MakeError(ErrorCode::kUnimplemented, "a pod's sandbox has no process to exec beside");
  }
  const oci::Process process = TRY(oci::ParseProcess(process_json));
  auto relay = TRY(StdioRelay::Open(stdio, PolicyFor(name.container_id), nullptr, logger_));
  const Sandbox sandbox = TRY(RunningSandbox());
  const int pid = TRY(sandbox.agent->ExecProcess(name, process_json, !stdio.in.empty()));
  return std::make_shared<GuestProcess>(
      sandbox.agent, name, ProcessInfo{pid, stdio, process.terminal}, std::move(relay),
      [this](Error error) { return Explain(std::move(error)); }, OnExit());
}

Status Pod::Start(const ProcessName& name) {
  const auto process = TRY(Find(name));
  if (name.exec_id.empty()) {
    // What CNI plugins and hooks did since the creation.
    TRY(RefreshNetwork(TRY(RunningSandbox())));
  }
  TRY(process->Start([&] { events_.Started(*process); }));
  if (name.exec_id.empty()) {
    timeline_.Mark("container started");
    if (options_.debug) {
      logger_.Debug("start-up:\n" + timeline_.ToText());
    }
  }
  return {};
}

Result<ProcessExit> Pod::Delete(const ProcessName& name) {
  const auto process = TRY(Find(name));
  return process->Delete([&](const Result<ProcessExit>& exit) {
    if (name.exec_id.empty()) {
      shared_->RemoveContainer(name.container_id);
    }
    Forget(name);
    events_.Deleted(*process, ExitOr137(exit));
  });
}

Status Pod::Pause(const std::string& id) {
  const auto init = TRY(Find({id, ""}));
  if (init->state() != ProcessState::kRunning) {
    return MakeError(ErrorCode::kFailedPrecondition, "container {} is not running", id);
  }
  TRY(TRY(RunningSandbox()).agent->Pause(id));
  {
    const std::lock_guard lock(mutex_);
    containers_[id].state.paused = true;
  }
  events_.Paused(id);
  return {};
}

Status Pod::Resume(const std::string& id) {
  TRY(Find({id, ""}));
  TRY(TRY(RunningSandbox()).agent->Resume(id));
  {
    const std::lock_guard lock(mutex_);
    containers_[id].state.paused = false;
  }
  events_.Resumed(id);
  return {};
}

Result<std::shared_ptr<Process>> Pod::Find(const ProcessName& name) const {
  const std::lock_guard lock(mutex_);
  const auto container = containers_.find(name.container_id);
  if (container == containers_.end()) {
    return MakeError(ErrorCode::kNotFound, "container {}: not found", name.container_id);
  }
  const auto process = container->second.processes.find(name.exec_id);
  if (process == container->second.processes.end() || !process->second) {
    return MakeError(ErrorCode::kNotFound, "process \"{}\" of container {}: not found",
                     name.exec_id, name.container_id);
  }
  return process->second;
}

Result<std::vector<pb::ListProcessesResponse::Entry>> Pod::Processes(const std::string& id) {
  const auto init = TRY(Find({id, ""}));
  if (IsPause(*init)) {
    return std::vector<pb::ListProcessesResponse::Entry>{};
  }
  return TRY(RunningSandbox()).agent->ListProcesses(id);
}

Status Pod::Update(const std::string& id, const std::string& resources_json) {
  const auto init = TRY(Find({id, ""}));
  if (init->state() == ProcessState::kStopped) {
    return MakeError(ErrorCode::kFailedPrecondition, "container {} is not running", id);
  }
  if (IsPause(*init)) {
    return {};  // a sandbox has no limits of its own
  }
  oci::Resources resources = TRY(oci::ParseResources(resources_json));
  ForgetHostCpus(resources);
  return TRY(RunningSandbox()).agent->Update(id, oci::ResourcesToJson(resources));
}

Result<pb::ContainerStatsResponse> Pod::Stats(const std::string& id) {
  const auto init = TRY(Find({id, ""}));
  if (IsPause(*init)) {
    return pb::ContainerStatsResponse();
  }
  return TRY(RunningSandbox()).agent->Stats(id);
}

Result<Pod::ContainerState> Pod::StateOf(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  const auto found = containers_.find(id);
  if (found == containers_.end()) {
    return MakeError(ErrorCode::kNotFound, "container {}: not found", id);
  }
  return found->second.state;
}

bool Pod::HasContainers() const {
  const std::lock_guard lock(mutex_);
  return !containers_.empty();
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
  const std::lock_guard lock(mutex_);
  const auto container = containers_.find(process->name().container_id);
  if (shut_down_ || vm_over_ || container == containers_.end()) {
    return MakeError(ErrorCode::kUnavailable, "the {} is gone",
                     shut_down_ || vm_over_ ? "pod" : "container");
  }
  if (const auto& stand_in = container->second.stand_in; stand_in && stand_in->Ended()) {
    return MakeError(ErrorCode::kFailedPrecondition, "{}", kStandInEnded);
  }
  container->second.processes[process->name().exec_id] = process;
  return {};
}

void Pod::Forget(const ProcessName& name) {
  Container dead;  // destroyed without the lock
  const std::lock_guard lock(mutex_);
  const auto container = containers_.find(name.container_id);
  if (container == containers_.end()) {
    return;
  }
  if (name.exec_id.empty()) {
    dead = std::move(container->second);
    containers_.erase(container);
  } else if (auto node = container->second.processes.extract(name.exec_id)) {
    dead.processes.insert(std::move(node));
  }
}

Error Pod::Explain(Error error) const {
  const auto sandbox = RunningSandbox();
  if (!sandbox || error.code() != ErrorCode::kUnavailable) {
    return error;
  }
  return ExplainByVm(*sandbox->vm, std::move(error));
}

void Pod::Shutdown() {
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(shut_down_, true)) {
      return;
    }
  }
  // While it still boots, Create holds the lock; the process's end ends the VM then.
  const std::unique_lock booting(boot_mutex_, std::try_to_lock);
  if (!booting) {
    return;
  }
  if (const auto sandbox = RunningSandbox()) {
    if (!sandbox->vm->Exit()) {
      sandbox->agent->Shutdown(kShutdownTimeout);
    }
    sandbox->vm->Kill();
    const uint64_t one = 1;
    (void)sys::Write(stop_watching_.get(), std::as_bytes(std::span(&one, 1)));
    events_context_.TryCancel();
    vm_watch_.join();
    event_reader_.join();
  }
  std::map<std::string, Container> dead;
  {
    const std::lock_guard lock(mutex_);
    dead.swap(containers_);
  }
  dead.clear();
  shared_.reset();
  const std::lock_guard lock(network_mutex_);
  network_.reset();
}

}  // namespace bulkhead::shim
