#include "agent/sysctls.h"

#include <algorithm>

#include "base/sys.h"

namespace bulkhead::agent {

Status SetSysctls(const std::map<std::string, std::string>& sysctls) {
  for (const auto& [name, value] : sysctls) {
    std::string path = name;
    if (path.find('/') == std::string::npos) {
      std::replace(path.begin(), path.end(), '.', '/');
    }
    if (path.find("..") != std::string::npos) {
      return MakeError(ErrorCode::kInvalidArgument, "linux.sysctl: bad name \"{}\"", name);
    }
    TRY_AS(sys::WriteExisting("/proc/sys/" + path, value), "linux.sysctl");
  }
  return {};
}

}  // namespace bulkhead::agent
