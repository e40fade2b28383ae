// Kernel parameters of the guest, or of the namespaces that the caller is in.
#pragma once

#include <map>
#include <string>

#include "base/result.h"

namespace bulkhead::agent {

// Names are with dots or, for one that has a dot in a part, with slashes. Those before a failure
// stay set.
Status SetSysctls(const std::map<std::string, std::string>& sysctls);

}  // namespace bulkhead::agent
