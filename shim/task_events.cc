#include "shim/task_events.h"

#include "proto_gen/containerd/events.pb.h"
#include "shim/exit_fields.h"
#include "shim/typed_any.h"

namespace bulkhead::shim {
namespace {

namespace events = containerd::events;

template <typename Event>
Event For(const std::string& id) {
  Event event;
  event.set_container_id(id);
  return event;
}

}  // namespace

void TaskEvents::Created(const CreateOptions& options, const Process& process) {
  auto event = For<events::TaskCreate>(options.id);
  event.set_bundle(options.bundle);
  for (const RootfsMount& mount : options.rootfs) {
    auto& entry = *event.add_rootfs();
    entry.set_type(mount.type);
    entry.set_source(mount.source);
    *entry.mutable_options() = {mount.options.begin(), mount.options.end()};
  }
  const ProcessInfo& info = process.info();
  event.mutable_io()->set_stdin(info.stdio.in);
  event.mutable_io()->set_stdout(info.stdio.out);
  event.mutable_io()->set_stderr(info.stdio.err);
  event.mutable_io()->set_terminal(info.terminal);
  event.set_pid(static_cast<uint32_t>(info.pid));
  publisher_.Publish(kTopicCreate, PackAny(event));
}

void TaskEvents::ExecAdded(const ProcessName& name) {
  auto event = For<events::TaskExecAdded>(name.container_id);
  event.set_exec_id(name.exec_id);
  publisher_.Publish(kTopicExecAdded, PackAny(event));
}

void TaskEvents::Started(const Process& process) {
  const ProcessName& name = process.name();
  const auto pid = static_cast<uint32_t>(process.info().pid);
  if (name.exec_id.empty()) {
    auto event = For<events::TaskStart>(name.container_id);
    event.set_pid(pid);
    publisher_.Publish(kTopicStart, PackAny(event));
    return;
  }
  auto event = For<events::TaskExecStarted>(name.container_id);
  event.set_exec_id(name.exec_id);
  event.set_pid(pid);
  publisher_.Publish(kTopicExecStarted, PackAny(event));
}

void TaskEvents::Exited(const Process& process, const Result<ProcessExit>& exit) {
  const ProcessName& name = process.name();
  auto event = For<events::TaskExit>(name.container_id);
  event.set_id(name.exec_id.empty() ? name.container_id : name.exec_id);
  event.set_pid(static_cast<uint32_t>(process.info().pid));
  FillExit(event, ExitOr137(exit));
  publisher_.Publish(kTopicExit, PackAny(event));
}

// containerd knows no event for the end of an exec's record.
void TaskEvents::Deleted(const Process& process, const ProcessExit& exit) {
  if (!process.name().exec_id.empty()) {
    return;
  }
  auto event = For<events::TaskDelete>(process.name().container_id);
  event.set_pid(static_cast<uint32_t>(process.info().pid));
  FillExit(event, exit);
  publisher_.Publish(kTopicDelete, PackAny(event));
}

void TaskEvents::Paused(const std::string& id) {
  publisher_.Publish(kTopicPaused, PackAny(For<events::TaskPaused>(id)));
}

void TaskEvents::Resumed(const std::string& id) {
  publisher_.Publish(kTopicResumed, PackAny(For<events::TaskResumed>(id)));
}

void TaskEvents::Oom(const std::string& id) {
  publisher_.Publish(kTopicOom, PackAny(For<events::TaskOOM>(id)));
}

}  // namespace bulkhead::shim
