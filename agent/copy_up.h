// tmpcopyup: a tmpfs that begins with what it covers.
#pragma once

#include "base/result.h"

namespace bulkhead::agent {

// Copies what is in the folder `from` into the empty folder `to`: contents, owners, modes, extended
// attributes, times, symbolic and hard links, devices, pipes and sockets; and the folder's own
// owner if `own` is so. No link is ever followed, so that nothing leads out of either.
Status CopyUp(int from, int to, bool own);

}  // namespace bulkhead::agent
