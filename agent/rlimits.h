// Resource limits of a process.
#pragma once

#include <vector>

#include "base/result.h"
#include "oci/spec.h"

namespace bulkhead::agent {

// The number of "RLIMIT_NOFILE" and the like.
Result<int> ParseRlimitType(const std::string& name);
// Sets them for the calling process.
Status SetRlimits(const std::vector<oci::Rlimit>& limits);

}  // namespace bulkhead::agent
