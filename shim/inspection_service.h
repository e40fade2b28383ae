// `bulkhead.inspection.v1.Inspection` (proto/inspection.proto) over ttrpc: what a pod is made of,
// for people and their tools. Engines do not know it.
#pragma once

#include "rpc/ttrpc_server.h"
#include "shim/pod.h"

namespace bulkhead::shim {

inline constexpr char kInspectionService[] = "bulkhead.inspection.v1.Inspection";

// `pod` outlives the server.
void RegisterInspectionService(rpc::TtrpcServer& server, Pod& pod);

}  // namespace bulkhead::shim
