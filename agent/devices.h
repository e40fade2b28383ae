// Device nodes of a container.
#pragma once

#include <vector>

#include "base/result.h"
#include "oci/spec.h"

namespace bulkhead::agent {

// null, zero, full, random, urandom and tty, which every container has.
std::vector<oci::Device> StandardDevices();

// Nodes below the folder `root`, and folders on the way; what is there of such a name goes.
Status MakeDevices(int root, const std::vector<oci::Device>& devices);

// /dev/ptmx and the links to /proc/self/fd.
Status MakeDeviceLinks(int root);

}  // namespace bulkhead::agent
