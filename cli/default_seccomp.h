// The seccomp filter that a container gets unless told otherwise.
#pragma once

#include <string>
#include <vector>

#include "oci/spec.h"

namespace bulkhead::cli {

// Everything is allowed but what docker's profile blocks too: calls that change the kernel as a
// whole or that no ordinary program makes. A list of what is denied, unlike docker's list of what
// is allowed, stays right when kernels gain calls; the VM, not this filter, is the wall.
// `capabilities`: the bounding set; what a capability stands for is allowed with it.
oci::Seccomp DefaultSeccomp(const std::vector<std::string>& capabilities);

}  // namespace bulkhead::cli
