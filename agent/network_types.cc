#include "agent/network_types.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>

#include <array>

namespace bulkhead::agent {
namespace {

constexpr uint32_t kDefaultMetric6 = 1024;  // IP6_RT_PRIO_USER

std::string PrefixText(const std::string& ip, uint32_t prefix) {
  return ip.empty() ? "default" : fmt::format("{}/{}", IpText(ip), prefix);
}

std::string EntryText(const Address& address) {
  return fmt::format("address {}/{} link {}", IpText(address.ip), address.prefix, address.link);
}

std::string EntryText(const Route& route) {
  std::string out = "route ";
  if (IsReject(route)) {
    constexpr std::array kNames{"blackhole", "unreachable", "prohibit", "throw"};
    out += fmt::format("{} ", kNames.at(route.type - RTN_BLACKHOLE));
  }
  out += PrefixText(route.destination, route.prefix);
  if (!route.gateway.empty()) {
    out += " via " + IpText(route.gateway);
  }
  if (route.link != 0) {
    out += fmt::format(" link {}", route.link);
  }
  if (route.metric != 0) {
    out += fmt::format(" metric {}", route.metric);
  }
  if (route.table != RT_TABLE_MAIN) {
    out += fmt::format(" table {}", route.table);
  }
  return out;
}

std::string EntryText(const Neighbour& neighbour) {
  return fmt::format("neighbour {} {} link {}", IpText(neighbour.ip), MacText(neighbour.mac),
                     neighbour.link);
}

std::string EntryText(const Rule& rule) {
  return fmt::format("rule {} from {} to {} table {}", rule.priority,
                     PrefixText(rule.source, rule.source_prefix),
                     PrefixText(rule.destination, rule.destination_prefix), rule.table);
}

std::string ChangeText(const LinkChange& change) {
  std::string out = fmt::format("set link {}", change.link);
  if (!change.name.empty()) {
    out += " name " + change.name;
  }
  if (change.no_generated_address) {
    out += " addrgenmode none";
  }
  if (change.mtu != 0) {
    out += fmt::format(" mtu {}", change.mtu);
  }
  if (!change.mac.empty()) {
    out += " address " + MacText(change.mac);
  }
  if (change.no_arp) {
    out += *change.no_arp ? " noarp" : " arp";
  }
  if (change.up) {
    out += *change.up ? " up" : " down";
  }
  return out;
}

std::string ChangeText(const VlanCreation& change) {
  return fmt::format("add link {} on {} vlan {}", change.name, change.parent, change.id);
}

std::string ChangeText(const LinkRemoval& change) {
  return fmt::format("remove link {}", change.link);
}

std::string ChangeText(const SysctlChange& change) {
  return fmt::format("set {} {}", change.name, change.value);
}

template <typename T>
std::string ChangeText(const EntryChange<T>& change) {
  constexpr std::array kActions{"add", "replace", "remove"};
  return fmt::format("{} {}", kActions.at(static_cast<size_t>(change.action)),
                     EntryText(change.entry));
}

}  // namespace

std::string MacText(const std::string& mac) {
  std::string out;
  for (const char byte : mac) {
    out += fmt::format("{}{:02x}", out.empty() ? "" : ":", static_cast<uint8_t>(byte));
  }
  return out;
}

std::string IpText(const std::string& ip) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if ((ip.size() != sizeof(in_addr) && ip.size() != sizeof(in6_addr)) ||
      ::inet_ntop(ip.size() == sizeof(in_addr) ? AF_INET : AF_INET6, ip.data(), text.data(),
                  text.size()) == nullptr) {
    return fmt::format("({} bytes)", ip.size());
  }
  return text.data();
}

std::string ToText(const NetworkChange& change) {
  return std::visit([](const auto& value) { return ChangeText(value); }, change);
}

void Normalize(Address& address) {
  address.flags &= IFA_F_NOPREFIXROUTE;
  if (address.ip.size() == sizeof(in6_addr)) {
    address.scope = 0;  // told by the address itself
    address.broadcast.clear();
  }
}

bool IsReject(const Route& route) { return route.type >= RTN_BLACKHOLE && route.type <= RTN_THROW; }

void Normalize(Route& route) {
  route.flags &= RTNH_F_ONLINK;
  route.table = route.table == 0 ? uint32_t{RT_TABLE_MAIN} : route.table;
  route.type = route.type == RTN_UNSPEC ? uint32_t{RTN_UNICAST} : route.type;
  if (route.destination.find_first_not_of('\0') == std::string::npos && route.prefix == 0) {
    route.destination.clear();
  }
  if (IsReject(route)) {  // IPv6 shows them on lo
    route.device.clear();
    route.link = 0;
    route.gateway.clear();
    route.flags = 0;
  }
  if (route.family == AF_INET6) {
    route.scope = 0;
    route.metric = route.metric == 0 ? kDefaultMetric6 : route.metric;
  }
}

void Normalize(Rule& rule) {
  const auto normalize = [](std::string& ip, uint32_t prefix) {
    if (prefix == 0) {
      ip.clear();
    }
  };
  normalize(rule.source, rule.source_prefix);
  normalize(rule.destination, rule.destination_prefix);
  rule.mask = rule.mark != 0 && rule.mask == 0 ? UINT32_MAX : rule.mask;
}

}  // namespace bulkhead::agent
