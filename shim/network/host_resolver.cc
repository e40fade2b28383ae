#include "shim/network/host_resolver.h"

#include <arpa/inet.h>

#include <algorithm>
#include <iterator>
#include <sstream>

#include "base/sys.h"
#include "shim/network/user_link.h"

namespace bulkhead::shim {
namespace {

constexpr size_t kMaxServers = 3;
constexpr size_t kMaxSearch = 32;

bool IsAddress(const std::string& text) {
  in6_addr address{};
  return ::inet_pton(AF_INET, text.c_str(), &address) == 1 ||
         ::inet_pton(AF_INET6, text.c_str(), &address) == 1;
}

bool IsDirect(const std::string& server) {
  in_addr address{};
  in_addr own{};
  ::inet_pton(AF_INET, kUserNetwork4, &own);
  const auto top = [](in_addr ip, uint32_t bits) { return ntohl(ip.s_addr) >> (32 - bits); };
  return ::inet_pton(AF_INET, server.c_str(), &address) == 1 && top(address, 8) != 127 &&
         top(address, 8) != 0 && top(address, kUserPrefix4) != top(own, kUserPrefix4);
}

}  // namespace

std::vector<std::string> DirectServers(const HostResolver& resolver) {
  std::vector<std::string> servers;
  std::copy_if(resolver.servers.begin(), resolver.servers.end(), std::back_inserter(servers),
               IsDirect);
  return servers;
}

HostResolver ParseResolvConf(std::string_view text) {
  HostResolver resolver;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string key;
    std::string word;
    words >> key;
    if (key == "nameserver" && words >> word && IsAddress(word) &&
        resolver.servers.size() < kMaxServers) {
      resolver.servers.push_back(word);
    } else if (key == "search" || key == "domain") {
      resolver.search.clear();  // the last one counts
      while (words >> word && resolver.search.size() < kMaxSearch) {
        resolver.search.push_back(word);
      }
    } else if (key == "options") {
      while (words >> word) {
        resolver.options += (resolver.options.empty() ? "" : " ") + word;
      }
    }
  }
  return resolver;
}

HostResolver ReadHostResolver() {
  constexpr size_t kMaxBytes = 64U << 10U;
  HostResolver resolver =
      ParseResolvConf(sys::ReadFile("/etc/resolv.conf", kMaxBytes).value_or(std::string()));
  if (resolver.servers.empty()) {
    resolver.servers.emplace_back("127.0.0.1");
  }
  return resolver;
}

}  // namespace bulkhead::shim
