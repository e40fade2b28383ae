// What a stand-in has in sight: whoever enters its mount namespace takes it for the container's.
#pragma once

#include <string>

#include "base/result.h"

namespace bulkhead::shim {

// A new mount namespace with the container's files as the host has them: its rootfs and what is
// bound into it, as config.json in the bundle says. What is in the guest alone, a tmpfs for one,
// shows as an empty folder that cannot be written. In /proc is this one process.
Status ShowContainer(const std::string& bundle);

// A new mount namespace with nothing but that /proc.
Status HideHost();

}  // namespace bulkhead::shim
