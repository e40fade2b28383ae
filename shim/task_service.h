// containerd's Task service over ttrpc: decodes requests, calls the Pod, encodes answers.
#pragma once

#include <functional>

#include "rpc/ttrpc_server.h"
#include "shim/pod.h"

namespace bulkhead::shim {

// Version 3 has the messages of version 2.
inline constexpr char kTaskServiceV2[] = "containerd.task.v2.Task";
inline constexpr char kTaskServiceV3[] = "containerd.task.v3.Task";
// The type of ProcessInfo.info in the answer of Pids, unless it is for an engine: a JSON object of
// the process's fields.
inline constexpr char kProcessEntryType[] = "bulkhead.dev/ProcessEntry+json";

struct TaskServiceOptions {
  // Answers are those that containerd expects: a process lost with its VM has ended with 137, a
  // shutdown is refused while there are containers.
  bool for_engine = false;
  bool process_entries = false;  // Pids tells kProcessEntryType all the same
  FdStore* fds = nullptr;        // what clients handed over; outlives the server
  std::function<void()> on_shutdown;
};

// `pod` and what `on_shutdown` captures must outlive the server.
void RegisterTaskService(rpc::TtrpcServer& server, Pod& pod, const TaskServiceOptions& options);

}  // namespace bulkhead::shim
