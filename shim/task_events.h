// A pod's events as containerd's.
#pragma once

#include "shim/event_publisher.h"
#include "shim/pod_events.h"

namespace bulkhead::shim {

class TaskEvents final : public PodEvents {
 public:
  explicit TaskEvents(EventPublisher& publisher) : publisher_(publisher) {}

  void Created(const CreateOptions& options, const Process& process) override;
  void ExecAdded(const ProcessName& name) override;
  void Started(const Process& process) override;
  void Exited(const Process& process, const Result<ProcessExit>& exit) override;
  void Deleted(const Process& process, const ProcessExit& exit) override;
  void Paused(const std::string& id) override;
  void Resumed(const std::string& id) override;
  void Oom(const std::string& id) override;

 private:
  EventPublisher& publisher_;
};

}  // namespace bulkhead::shim
