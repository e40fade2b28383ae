#include "shim/pod.h"

#include <algorithm>
#include <charconv>
#include <future>

#include "base/scope_guard.h"
#include "base/sys.h"

namespace bulkhead::shim {
namespace {

constexpr std::chrono::milliseconds kShutdownTimeout(3000);
constexpr size_t kMaxSpecBytes = 4U << 20U;

Result<uint64_t> NumberAnnotation(const oci::Spec& spec, const std::string& name,
                                  uint64_t fallback) {
  const auto found = spec.annotations.find(name);
  if (found == spec.annotations.end()) {
    return fallback;
  }
  const std::string& text = found->second;
  uint64_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc() || result.ptr != text.data() + text.size() || value == 0) {
    return MakeError(ErrorCode::kInvalidArgument, "annotation {}: \"{}\" is not a number", name,
                     text);
  }
  return value;
}

}  // namespace

Pod::Pod(Config config, PodOptions options, SpawnThread& spawner, Logger& logger, OnExit on_exit)
    : config_(std::move(config)),
      options_(std::move(options)),
      spawner_(spawner),
      logger_(logger),
      on_exit_(std::move(on_exit)) {}

Pod::~Pod() { Shutdown(); }

Result<int> Pod::Create(const CreateOptions& options) {
  TRY(Reserve({options.id, ""}, options.bundle));
  auto process = CreateInit(options);
  if (!process) {
    Forget({options.id, ""});
    return tl::unexpected(Explain(std::move(process).error()));
  }
  const std::lock_guard lock(mutex_);
  if (shut_down_) {
    return MakeError(ErrorCode::kUnavailable, "the pod was shut down");
  }
  containers_[options.id].processes[""] = *process;
  return (*process)->pid();
}

Result<oci::Spec> Pod::ReadSpec(const CreateOptions& options) const {
  const std::string path = options.bundle + "/config.json";
  oci::Spec spec = TRY(oci::ParseSpec(TRY(sys::ReadFile(path, kMaxSpecBytes))));
  if (!spec.process) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: process: missing", path);
  }
  return spec;
}

Result<std::shared_ptr<GuestProcess>> Pod::CreateInit(const CreateOptions& options) {
  oci::Spec spec = TRY(ReadSpec(options));
  if (!options_.log_path.empty() && !log_) {
    log_ = std::make_unique<ContainerLog>(options_.log_path);
    TRY(log_->Open());
  }
  auto relay = TRY(StdioRelay::Open(options.stdio, log_.get(), logger_));
  AgentClient* agent = TRY(EnsureSandbox(spec));
  std::string rootfs = spec.root.path;
  if (!rootfs.starts_with('/')) {
    rootfs = options.bundle + "/" + rootfs;
  }
  TRY(shared_->AddContainer(options.id, options.rootfs, rootfs, spec));
  ScopeGuard unshare([&] { shared_->RemoveContainer(options.id); });
  timeline_.Mark("rootfs shared");
  const int pid =
      TRY(agent->CreateContainer(options.id, oci::SpecToJson(spec), !options.stdio.in.empty()));
  timeline_.Mark("container created");
  unshare.Dismiss();
  return std::make_shared<GuestProcess>(*agent, ProcessName{options.id, ""}, pid, options.stdio,
                                        spec.process->terminal, std::move(relay));
}

Result<SandboxRequest> Pod::SizeSandbox(const oci::Spec& spec) const {
  SandboxRequest request;
  request.name = options_.id;
  request.hostname = spec.hostname.empty() ? "bulkhead" : spec.hostname;
  request.vcpus = static_cast<uint32_t>(
      std::min<uint64_t>(TRY(NumberAnnotation(spec, "io.bulkhead.vcpus", config_.vcpus)), 64));
  const uint64_t limit = TRY(NumberAnnotation(spec, "io.bulkhead.memory", 0));
  request.memory_bytes = limit == 0 ? config_.memory_bytes : limit + config_.memory_overhead_bytes;
  request.memory_bytes = (request.memory_bytes + (2U << 20U) - 1) & ~((2ULL << 20U) - 1);
  request.shared_path = options_.folder + "/shared";
  request.runtime_dir = options_.folder;
  return request;
}

Result<AgentClient*> Pod::EnsureSandbox(const oci::Spec& spec) {
  const std::lock_guard lock(sandbox_mutex_);
  if (sandbox_.agent) {
    return sandbox_.agent.get();
  }
  const SandboxRequest request = TRY(SizeSandbox(spec));
  if (!shared_) {
    TRY(sys::MkdirAll(request.shared_path, 0700));
    shared_.emplace(TRY(SharedTree::Create(request.shared_path)));
  }
  sandbox_ = TRY(StartSandbox(config_, request, {spawner_, logger_, timeline_}, options_.debug));
  return sandbox_.agent.get();
}

Result<int> Pod::Exec(const ProcessName& name, const std::string& process_json,
                      const StdioPaths& stdio) {
  if (name.exec_id.empty()) {
    return MakeError(ErrorCode::kInvalidArgument, "an exec needs an id");
  }
  TRY(Reserve(name, ""));
  const auto create = [&]() -> Result<std::shared_ptr<GuestProcess>> {
    const oci::Process process = TRY(oci::ParseProcess(process_json));
    auto relay = TRY(StdioRelay::Open(stdio, nullptr, logger_));
    const int pid = TRY(sandbox_.agent->ExecProcess(name, process_json, !stdio.in.empty()));
    return std::make_shared<GuestProcess>(*sandbox_.agent, name, pid, stdio, process.terminal,
                                          std::move(relay));
  };
  auto process = create();
  if (!process) {
    Forget(name);
    return tl::unexpected(Explain(std::move(process).error()));
  }
  const std::lock_guard lock(mutex_);
  containers_[name.container_id].processes[name.exec_id] = *process;
  return (*process)->pid();
}

Status Pod::Start(const ProcessName& name) {
  const auto process = TRY(Find(name));
  const bool init = name.exec_id.empty();
  TRY(process->Start([this](Error error) { return Explain(std::move(error)); },
                     [this, init](const Result<ProcessExit>& exit) {
                       if (init) {
                         on_exit_(exit);
                       }
                     }));
  if (init) {
    timeline_.Mark("container started");
    if (options_.debug) {
      logger_.Debug("start-up:\n" + timeline_.ToText());
    }
  }
  return {};
}

Result<ProcessExit> Pod::Delete(const ProcessName& name) {
  const auto process = TRY(Find(name));
  auto exit = process->Delete();
  if (!exit && exit.error().code() == ErrorCode::kFailedPrecondition) {
    return exit;
  }
  if (name.exec_id.empty()) {
    shared_->RemoveContainer(name.container_id);
  }
  Forget(name);
  return exit;
}

Result<std::shared_ptr<GuestProcess>> Pod::Find(const ProcessName& name) const {
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
  TRY(Find({id, ""}));
  return sandbox_.agent->ListProcesses(id);
}

Result<std::string> Pod::Bundle(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  const auto found = containers_.find(id);
  if (found == containers_.end()) {
    return MakeError(ErrorCode::kNotFound, "container {}: not found", id);
  }
  return found->second.bundle;
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
    container.bundle = bundle;
  }
  return {};
}

void Pod::Forget(const ProcessName& name) {
  std::map<std::string, std::shared_ptr<GuestProcess>> dead;  // destroyed without the lock
  const std::lock_guard lock(mutex_);
  const auto container = containers_.find(name.container_id);
  if (container == containers_.end()) {
    return;
  }
  if (name.exec_id.empty()) {
    dead.swap(container->second.processes);
    containers_.erase(container);
  } else if (auto node = container->second.processes.extract(name.exec_id)) {
    dead.insert(std::move(node));
  }
}

Error Pod::Explain(Error error) {
  if (!sandbox_.vm || error.code() != ErrorCode::kUnavailable) {
    return error;
  }
  return ExplainByVm(*sandbox_.vm, std::move(error));
}

void Pod::Shutdown() {
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(shut_down_, true)) {
      return;
    }
  }
  // While it still boots, Create holds the lock; the process's end ends the VM then.
  const std::unique_lock sandbox_lock(sandbox_mutex_, std::try_to_lock);
  if (!sandbox_lock) {
    return;
  }
  if (sandbox_.agent && !sandbox_.vm->Exit()) {
    sandbox_.agent->Shutdown(kShutdownTimeout);
  }
  if (sandbox_.vm) {
    sandbox_.vm->Kill();
  }
  std::map<std::string, Container> dead;
  {
    const std::lock_guard lock(mutex_);
    dead.swap(containers_);
  }
  dead.clear();
  sandbox_.agent.reset();
  sandbox_.vm.reset();
  shared_.reset();
}

}  // namespace bulkhead::shim
