// The mounts of a container, made in its own mount namespace before pivot_root.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "oci/spec.h"

namespace bulkhead::agent {

// One mount of config.json, in the root folder behind the fd. A tmpfs is writable at first: others,
// and devices, go into it.
Status MountInRoot(int root, const oci::Mount& mount);
// After pivot_root: the read-only ones of those become so.
Status CloseTmpfs(const std::vector<oci::Mount>& mounts);

// After pivot_root: hides a file behind /dev/null and a folder behind an empty tmpfs.
Status MaskPath(const std::string& path);
// After pivot_root: binds the path onto itself, read-only.
Status MakeReadonly(const std::string& path);
// A mount, which keeps its other flags.
Status RemountReadonly(const std::string& path);

}  // namespace bulkhead::agent
