// Memory that containers of the pod share by name: a tmpfs of the guest each.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace bulkhead::agent {

// At /run/shm/NAME; one that is there already stays as it is.
Status ShareMemory(const std::string& name, uint64_t size_bytes);
// Gone with the last container that has it mounted.
Status ReleaseMemory(const std::string& name);

}  // namespace bulkhead::agent
