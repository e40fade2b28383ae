#include "shim/pod.h"

#include "base/sys.h"

namespace bulkhead::shim {
namespace {

constexpr std::chrono::milliseconds kShutdownTimeout(3000);

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

Status Pod::Start(const ProcessName& name) {
  const auto process = TRY(Find(name));
  if (name.exec_id.empty()) {
    // What CNI plugins and hooks did since the creation.
    TRY(RefreshNetwork(TRY(RunningSandbox())));
    TRY(CheckNetwork(*process));
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

Result<Pod::Counters> Pod::Stats(const std::string& id) {
  const auto init = TRY(Find({id, ""}));
  Counters counters;
  if (!IsPause(*init)) {
    counters.container = TRY(TRY(RunningSandbox()).agent->Stats(id));
  }
  if (const auto network = Network()) {
    counters.network = network->Counters();
  }
  return counters;
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
  } else {
    dead.processes.insert(container->second.processes.extract(name.exec_id));
    dead.stand_ins.insert(container->second.stand_ins.extract(name.exec_id));
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
  forwarder_.reset();
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
    sweep_over_ = true;
    ended_changed_.notify_all();
  }
  if (sweeper_.joinable()) {
    sweeper_.join();
  }
  dead.clear();
  shared_.reset();
  network_watch_.reset();
  const std::lock_guard lock(network_mutex_);
  names_.reset();
  std::shared_ptr<PodNetwork> network;
  const std::lock_guard state_lock(mutex_);
  network.swap(network_);  // given back when others may ask again
}

}  // namespace bulkhead::shim
