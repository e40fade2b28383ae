// Mounts of the host that are shown somewhere else.
#pragma once

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead::shim {

// A copy of the mount at a path, not attached anywhere. No peer of the original's: what is mounted
// there later arrives, and unmounting the copy unmounts nothing of the host's.
Result<UniqueFd> CopyTree(const std::string& path, bool recursive);

Status AttachTree(const UniqueFd& tree, const std::string& target);
Status AttachTree(const UniqueFd& tree, const UniqueFd& target);

}  // namespace bulkhead::shim
