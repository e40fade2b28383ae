// The five capability sets of a process.
#pragma once

#include <cstdint>
#include <optional>

#include "base/result.h"
#include "oci/spec.h"

namespace bulkhead::agent {

// One bit per capability number.
struct CapabilitySets {
  uint64_t bounding = 0;
  uint64_t effective = 0;
  uint64_t inheritable = 0;
  uint64_t permitted = 0;
  uint64_t ambient = 0;

  // No sets: none at all, as runc has it. Unknown names are ignored.
  static CapabilitySets Parse(const std::optional<oci::Capabilities>& names);
};

// Before the user changes: needs CAP_SETPCAP.
Status DropBoundingSet(const CapabilitySets& sets);
// After the user has changed, with PR_SET_KEEPCAPS in force before.
Status SetCapabilities(const CapabilitySets& sets);

}  // namespace bulkhead::agent
