#include "agent/sysctls.h"

#include "base/sys.h"
#include "oci/words.h"

namespace bulkhead::agent {

Status SetSysctls(const std::map<std::string, std::string>& sysctls) {
  for (const auto& [name, value] : sysctls) {
    const std::string path = TRY_AS(oci::SysctlPath(name), "linux.sysctl");
    TRY_AS(sys::WriteExisting("/proc/sys/" + path, value), "linux.sysctl");
  }
  return {};
}

}  // namespace bulkhead::agent
