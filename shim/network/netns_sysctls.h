// Kernel parameters of a network namespace, which CNI plugins (tuning) and engines change: the
// guest is given what they have changed.
#pragma once

#include <map>
#include <string>

#include "base/result.h"

namespace bulkhead::shim {

using Sysctls = std::map<std::string, std::string>;  // by their paths below /proc/sys/net

// Those of a namespace that can be written. 3 ms for a pod's.
Result<Sysctls> ReadSysctls(int netns);
// Those of a namespace that nobody has changed: one is made for it.
Result<Sysctls> ReadFreshSysctls();

// What differs; for interfaces, from the values for new ones. Without what the description of the
// interfaces says by itself (MTUs, addresses, whether routers are heeded), and without
// disable_ipv6: addresses say that.
Sysctls ChangedSysctls(const Sysctls& netns, const Sysctls& fresh);

}  // namespace bulkhead::shim
