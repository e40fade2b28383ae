// The processes that stand for those of a pod on the host.
#include <signal.h>

#include "base/sys.h"
#include "shim/pod.h"

namespace bulkhead::shim {

StandIn::Events Pod::StandInEvents(const ProcessName& name) {
  StandIn::Events events;
  events.on_end = [this, name] { OnStandInEnd(name); };
  events.on_signal = [this, name](int signal) {
    if (const auto process = Find(name)) {
      (void)(*process)->Signal(signal, false);
    }
  };
  events.on_size = [this, name](WindowSize size) {
    if (const auto process = Find(name)) {
      (void)(*process)->Resize(size.rows, size.columns);
    }
  };
  return events;
}

Status Pod::StartStandIn(const std::string& id, const oci::Spec& spec) {
  const std::string program = TRY(sys::ReadLink("/proc/self/exe"));
  auto stand_in =
      TRY(StandIn::Start(spawner_, program, HostNetworkOf(spec), StandInEvents({id, ""})));
  const std::lock_guard lock(mutex_);
  containers_[id].stand_ins[""] = std::move(stand_in);
  return {};
}

Status Pod::AdoptStandIn(const ProcessName& name, StandIn::Link link) {
  auto stand_in = TRY(StandIn::Adopt(std::move(link), StandInEvents(name)));
  const std::lock_guard lock(mutex_);
  if (!sweeper_.joinable() && !shut_down_) {
    sweeper_ = std::thread([this] { ForgetEnded(); });
  }
  containers_[name.container_id].stand_ins[name.exec_id] = std::move(stand_in);
  return {};
}

// Whoever kills the pid that the engine tells means the process.
void Pod::OnStandInEnd(const ProcessName& name) {
  const auto process = Find(name);
  if (process && (*process)->state() != ProcessState::kStopped) {
    logger_.Warning(fmt::format("container {}: {}", name.container_id, kStandInEnded));
    (void)(*process)->Signal(SIGKILL, name.exec_id.empty());
  }
}

void Pod::TellStandIn(const Process& process, const Result<ProcessExit>& exit) {
  const ProcessName& name = process.name();
  const ProcessExit end = ExitOr137(exit);
  const std::lock_guard lock(mutex_);
  const auto container = containers_.find(name.container_id);
  if (container == containers_.end()) {
    return;
  }
  const auto stand_in = container->second.stand_ins.find(name.exec_id);
  if (stand_in == container->second.stand_ins.end() || !stand_in->second->adopted()) {
    return;
  }
  stand_in->second->TellExit(end.code, end.signal);
  if (!name.exec_id.empty()) {
    ended_.push_back(name);
    ended_changed_.notify_all();
  }
}

// The clients of adopted stand-ins are long gone when an exec ends.
void Pod::ForgetEnded() {
  std::unique_lock lock(mutex_);
  while (true) {
    ended_changed_.wait(lock, [this] { return sweep_over_ || !ended_.empty(); });
    if (sweep_over_) {
      return;
    }
    const ProcessName name = std::move(ended_.back());
    ended_.pop_back();
    lock.unlock();
    (void)Delete(name);
    lock.lock();
  }
}

int Pod::PidOfStandIn(const ProcessName& name) const {
  const std::lock_guard lock(mutex_);
  const auto container = containers_.find(name.container_id);
  if (container == containers_.end()) {
    return 0;
  }
  const auto stand_in = container->second.stand_ins.find(name.exec_id);
  return stand_in == container->second.stand_ins.end() ? 0 : stand_in->second->pid();
}

std::optional<std::string> Pod::OwnerOfStandIn(int pid) const {
  const std::lock_guard lock(mutex_);
  for (const auto& [id, container] : containers_) {
    const auto stand_in = container.stand_ins.find("");
    if (stand_in != container.stand_ins.end() && stand_in->second->pid() == pid) {
      const auto init = container.processes.find("");
      const bool pause =
          init != container.processes.end() && init->second && IsPause(*init->second);
      return pause ? "" : id;
    }
  }
  return std::nullopt;
}

}  // namespace bulkhead::shim
