// containerd's Task service over ttrpc: decodes requests, calls the Pod, encodes answers.
#pragma once

#include <functional>

#include "rpc/ttrpc_server.h"
#include "shim/pod.h"

namespace bulkhead::shim {

inline constexpr char kTaskService[] = "containerd.task.v2.Task";
// The type of ProcessInfo.info in the answer of Pids: a JSON object of the process's fields.
inline constexpr char kProcessEntryType[] = "bulkhead.dev/ProcessEntry+json";

// `pod` and what `on_shutdown` captures must outlive the server.
void RegisterTaskService(rpc::TtrpcServer& server, Pod& pod, std::function<void()> on_shutdown);

}  // namespace bulkhead::shim
