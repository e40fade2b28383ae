// containerd's `start`: finds the pod's daemon or makes one, and says where it listens.
#pragma once

#include <string>

#include "base/log.h"
#include "base/result.h"
#include "shim/shim_flags.h"

namespace bulkhead::shim {

// Works in the bundle's folder, where it also leaves the file `address`. Returns what is to be
// printed on stdout, where nothing else may be.
Result<std::string> RunStart(const ShimFlags& flags, Logger& logger);

}  // namespace bulkhead::shim
