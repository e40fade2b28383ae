// Memory that containers of the pod share by name: a tmpfs of the guest each.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace bulkhead::agent {

// At /run/shm/NAME, until the guest ends; one that is there already stays as it is.
Status ShareMemory(const std::string& name, uint64_t size_bytes);

}  // namespace bulkhead::agent
