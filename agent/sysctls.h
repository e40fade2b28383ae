// Kernel parameters of the guest, or of the namespaces that the caller is in.
#pragma once

#include <map>
#include <string>

#include "base/result.h"

namespace bulkhead::agent {

// Names as oci::SysctlPath takes them. Those before a failure stay set.
Status SetSysctls(const std::map<std::string, std::string>& sysctls);

// Who has capabilities in a user namespace of a container has none over the guest's network: what
// its root expects to do is allowed to all instead, unless somebody has set it: low ports, ping.
void OpenNetworkToUsers();

}  // namespace bulkhead::agent
