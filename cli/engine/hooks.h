// The programs of config.json's hooks.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "cli/engine/record.h"
#include "oci/spec.h"

namespace bulkhead::cli {

// The state of a container as the runtime specification has it: what hooks read.
std::string StateJson(const ContainerRecord& record, const std::string& status, pid_t pid);

// One after another, each with `state` on its stdin. The first that fails ends it; the error holds
// what it wrote to stderr. With `netns` they run in that network namespace.
Status RunHooks(const std::vector<oci::Hook>& hooks, const std::string& kind,
                const std::string& state, const std::string& netns = "");

}  // namespace bulkhead::cli
