// The pod that a container of an engine belongs in, and its daemon.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/engine/record.h"
#include "cli/globals.h"
#include "oci/spec.h"
#include "shim/config.h"
#include "shim/engine_pod.h"
#include "shim/host_namespaces.h"

namespace bulkhead::cli {

// The container of `alive` whose pod the spec asks to join, by annotations of the CRI or by the
// path of a namespace; none: a pod of its own. What no VM can give is an error that names the
// field: the host's network or processes, namespaces of two pods, or of nobody here.
Result<std::optional<ContainerRecord>> FindPodToJoin(const oci::Spec& spec, const std::string& id,
                                                     const std::vector<ContainerRecord>& alive,
                                                     const shim::NamespaceOf& namespace_of);

// Starts a daemon in the pod's folder, which it makes; returns its pid. It keeps nothing of ours.
Result<pid_t> StartPodDaemon(const shim::EnginePod& pod, const std::string& id,
                             const Config& config, const GlobalOptions& options);
// Waits for a daemon that was told to end; then kills it. Its folder is gone after this.
Status EndPodDaemon(const shim::EnginePod& pod, std::chrono::milliseconds patience);

}  // namespace bulkhead::cli
