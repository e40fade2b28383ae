// containerd's `delete`: called when it has lost a container's daemon, and also after each orderly
// end of a container. Leaves nothing of the container, and nothing of a pod whose daemon is dead.
#pragma once

#include <string>

#include "base/log.h"
#include "base/result.h"
#include "shim/shim_flags.h"

namespace bulkhead::shim {

// Returns what is to be printed on stdout: a serialised DeleteResponse.
Result<std::string> RunDelete(const ShimFlags& flags, Logger& logger);

}  // namespace bulkhead::shim
