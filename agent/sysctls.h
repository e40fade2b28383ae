// Kernel parameters of the guest, or of the namespaces that the caller is in.
#pragma once

#include <map>
#include <string>

#include "base/result.h"

namespace bulkhead::agent {

// Names as oci::SysctlPath takes them. Those before a failure stay set.
Status SetSysctls(const std::map<std::string, std::string>& sysctls);

}  // namespace bulkhead::agent
