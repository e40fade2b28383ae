// The disk of a container's writable layer, before it is one: a file without a name, so that
// nothing is left of it when whoever has it open is gone.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "base/spawn_thread.h"
#include "base/unique_fd.h"

namespace bulkhead::shim {

// A sparse file in `folder` (made if it is missing) with an empty ext4 of `size` bytes. `mkfs`: the
// program mkfs.ext4.
Result<UniqueFd> MakeUpperImage(const std::string& folder, uint64_t size, const std::string& mkfs,
                                SpawnThread& spawner);

}  // namespace bulkhead::shim
