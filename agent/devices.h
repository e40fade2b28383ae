// Device nodes of a container.
#pragma once

#include <vector>

#include "base/result.h"
#include "oci/spec.h"

namespace bulkhead::agent {

// null, zero, full, random, urandom, tty and those of the spec; /dev/ptmx and the links to
// /proc/self/fd. `root` is the container's root folder.
Status MakeDevices(int root, const std::vector<oci::Device>& devices);

}  // namespace bulkhead::agent
