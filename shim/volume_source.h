// What a bind mount names on the host.
#pragma once

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead::shim {

struct VolumeSource {
  UniqueFd tree;  // a copy of its mount, attached nowhere
  bool is_folder = false;
  // Alike for the same file or folder, found by the same path of the same mount, with the same
  // mounts below. As long as a tree of it is held, nothing else is alike. Empty: it cannot be told.
  std::string identity;
};

// `view`: the mount namespace that the path is of; negative: our own. Devices are refused.
Result<VolumeSource> OpenVolumeSource(const std::string& path, bool recursive, int view);

// The lines of a mountinfo, each as far as the mount's options, of the mount with the id and, if
// `below`, of those below the path. Empty: that mount is not there.
std::string MountsOf(const std::string& mountinfo, uint64_t id, const std::string& path,
                     bool below);

}  // namespace bulkhead::shim
