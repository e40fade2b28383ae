// Mounts of the host that are shown somewhere else.
#pragma once

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead::shim {

// A copy of the mount at a path, not attached anywhere. No peer of the original's: what is mounted
// there later arrives, and unmounting the copy unmounts nothing of the host's.
Result<UniqueFd> CopyTree(const std::string& path, bool recursive);

// MS_SLAVE or MS_PRIVATE: whether what is mounted on the host later still arrives.
Status SetPropagation(const UniqueFd& tree, bool recursive, unsigned long propagation);

// Before it is attached: a mount that others have got already does not change with ours.
Status SetReadonly(const UniqueFd& tree, bool recursive);

Status AttachTree(const UniqueFd& tree, const std::string& target);
Status AttachTree(const UniqueFd& tree, const UniqueFd& target);

}  // namespace bulkhead::shim
