#include "agent/sysctls.h"

#include <array>
#include <string_view>

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

void OpenNetworkToUsers() {
  struct Opened {
    const char* path;
    std::string_view closed;
    std::string_view open;
  };
  constexpr std::array kOpened{
      Opened{"/proc/sys/net/ipv4/ip_unprivileged_port_start", "1024\n", "0"},
      Opened{"/proc/sys/net/ipv4/ping_group_range", "1\t0\n", "0 2147483647"}};
  for (const auto& [path, closed, open] : kOpened) {
    const auto now = sys::ReadFile(path);
    if (now && *now == closed) {
      static_cast<void>(sys::WriteExisting(path, open));
    }
  }
}

}  // namespace bulkhead::agent
