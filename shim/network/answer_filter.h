// What Docker's name server asks other ones leaves by the pod's own interface, from a socket in its
// namespace; the answers come in where all else is the guest's. This program of traffic control
// tells them apart: what is from port 53 and has a connected socket there goes on to the host's
// stack, and ARP's replies go to both, for it must find its way, too.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead::shim {

// Of the type BPF_PROG_TYPE_SCHED_CLS, for direct action; what it does not want goes to the next
// filter. `tap`: the index of the guest's interface.
Result<UniqueFd> LoadAnswerFilter(uint32_t tap);

}  // namespace bulkhead::shim
