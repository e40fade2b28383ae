// What a pod tells of itself. Calls come from any thread, in the order in which a client may learn
// of it: a process's creation before its start, its start before its end.
#pragma once

#include "shim/process.h"
#include "shim/stand_in.h"
#include "shim/storage.h"

namespace bulkhead::shim {

struct CreateOptions {
  std::string id;
  std::string bundle;
  std::vector<RootfsMount> rootfs;
  StdioPaths stdio;
  // Of a client that made the stand-in itself.
  std::shared_ptr<StandIn::Link> stand_in;
};

class PodEvents {
 public:
  virtual ~PodEvents() = default;
  virtual void Created(const CreateOptions& options, const Process& process) = 0;
  virtual void ExecAdded(const ProcessName& name) = 0;
  virtual void Started(const Process& process) = 0;
  virtual void Exited(const Process& process, const Result<ProcessExit>& exit) = 0;
  virtual void Deleted(const Process& process, const ProcessExit& exit) = 0;
  virtual void Paused(const std::string& id) = 0;
  virtual void Resumed(const std::string& id) = 0;
  virtual void Oom(const std::string& id) = 0;
};

// How a lost process (its VM died) is told to those who know numbers only: as a kill.
ProcessExit ExitOr137(const Result<ProcessExit>& exit);

}  // namespace bulkhead::shim
