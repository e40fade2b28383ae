#include "agent/network_check.h"

#include <linux/if_addr.h>
#include <linux/if_ether.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>

#include <algorithm>
#include <string_view>

namespace bulkhead::agent {
namespace {

constexpr size_t kMacBytes = 6;
constexpr size_t kMaxInterfaces = 64;
constexpr size_t kMaxAddresses = 1024;  // of one interface
constexpr size_t kMaxRoutes = 4096;
constexpr size_t kMaxNeighbours = 4096;
constexpr size_t kMaxRules = 1024;
constexpr uint32_t kMaxScope = 255;
constexpr uint32_t kMaxMtu = 65536;
constexpr uint32_t kMaxVlanId = 4094;
constexpr size_t kMaxSysctls = 1024;
constexpr size_t kMaxSysctlName = 128;
constexpr size_t kMaxSysctlValue = 4096;

template <typename... Args>
Status Refuse(fmt::format_string<Args...> format, Args&&... args) {
  return MakeError(ErrorCode::kInvalidArgument, format, std::forward<Args>(args)...);
}

Status CheckCount(size_t count, size_t limit) {
  return count > limit ? Refuse("{} entries, more than {}", count, limit) : Status();
}

// As dev_valid_name() in the kernel has it; a '%' would make a pattern of it.
Status CheckName(const std::string& name) {
  if (name.empty() || name.size() >= IFNAMSIZ || name == "." || name == "..") {
    return Refuse("\"{}\" is no name of an interface", name.substr(0, 2 * IFNAMSIZ));
  }
  for (const char byte : name) {
    if (byte <= ' ' || byte > '~' || std::string_view("/:%").find(byte) != std::string_view::npos) {
      return Refuse("no name of an interface: byte {} is not allowed",
                    static_cast<unsigned>(static_cast<uint8_t>(byte)));
    }
  }
  return {};
}

Status CheckMac(const std::string& mac) {
  if (mac.size() != kMacBytes) {
    return Refuse("{} bytes, not {}", mac.size(), kMacBytes);
  }
  if ((mac[0] & 1) != 0) {
    return Refuse("{} is a multicast address", MacText(mac));
  }
  return mac == std::string(kMacBytes, '\0') ? Refuse("all zeros") : Status();
}

size_t SizeOf(uint32_t family) { return family == AF_INET ? 4 : 16; }

Status CheckFamily(uint32_t family) {
  return family == AF_INET || family == AF_INET6 ? Status() : Refuse("{} is not IP", family);
}

// Empty is right, too.
Status CheckIp(const std::string& ip, size_t size) {
  return ip.empty() || ip.size() == size ? Status() : Refuse("{} bytes, not {}", ip.size(), size);
}

Status CheckPrefix(const std::string& ip, uint32_t prefix) {
  return prefix > ip.size() * 8 ? Refuse("{} of {} bits", prefix, ip.size() * 8) : Status();
}

// A network: nothing is set beyond the prefix.
Status CheckSubnet(const std::string& ip, uint32_t prefix, uint32_t family) {
  TRY(CheckIp(ip, SizeOf(family)));
  TRY_AS(CheckPrefix(ip, prefix), "prefix");
  for (size_t bit = prefix; bit < ip.size() * 8; ++bit) {
    if ((static_cast<uint8_t>(ip[bit / 8]) >> (7 - bit % 8) & 1) != 0) {
      return Refuse("{}/{} has bits beyond the prefix", IpText(ip), prefix);
    }
  }
  return {};
}

Status CheckDevice(const std::string& device, const Network& network) {
  const bool known =
      device == "lo" || std::any_of(network.interfaces.begin(), network.interfaces.end(),
                                    [&](const auto& i) { return i.name == device; });
  return known ? Status() : Refuse("\"{}\" is not among the interfaces", device.substr(0, 32));
}

Status CheckAddress(Address& address) {
  if (address.ip.size() != 4 && address.ip.size() != 16) {
    return Refuse("ip: {} bytes, not 4 or 16", address.ip.size());
  }
  TRY_AS(CheckPrefix(address.ip, address.prefix), "prefix");
  TRY_AS(CheckIp(address.broadcast, address.ip.size()), "broadcast");
  if (address.scope > kMaxScope) {
    return Refuse("scope: {}", address.scope);
  }
  Normalize(address);
  return {};
}

Status CheckInterface(Interface& interface) {
  TRY_AS(CheckName(interface.name), "name");
  if (interface.name != "lo") {
    TRY_AS(CheckMac(interface.mac), "mac");
    TRY_AS(CheckMac(interface.nic_mac), "nic_mac");
  }
  if (interface.mtu > kMaxMtu) {
    return Refuse("mtu: {}, more than {}", interface.mtu, kMaxMtu);
  }
  TRY_AS(CheckCount(interface.addresses.size(), kMaxAddresses), "addresses");
  for (size_t i = 0; i < interface.addresses.size(); ++i) {
    TRY_AS(CheckAddress(interface.addresses[i]), "addresses[{}]", i);
  }
  return {};
}

// Parents come first, so that no two are on top of each other.
Status CheckVlans(const std::vector<Interface>& interfaces) {
  for (size_t i = 0; i < interfaces.size(); ++i) {
    const std::optional<Vlan>& vlan = interfaces[i].vlan;
    if (!vlan) {
      continue;
    }
    const auto end = interfaces.begin() + static_cast<std::ptrdiff_t>(i);
    const bool known = std::any_of(
        interfaces.begin(), end, [&](const Interface& entry) { return entry.name == vlan->link; });
    if (!known || vlan->link == "lo" || interfaces[i].name == "lo") {
      return Refuse("interfaces[{}]: vlan: link: \"{}\" is not among the interfaces before it", i,
                    vlan->link.substr(0, 2 * IFNAMSIZ));
    }
    if (vlan->id == 0 || vlan->id > kMaxVlanId) {
      return Refuse("interfaces[{}]: vlan: id: {} is not within 1 and {}", i, vlan->id, kMaxVlanId);
    }
    if (vlan->protocol != ETH_P_8021Q && vlan->protocol != ETH_P_8021AD) {
      return Refuse("interfaces[{}]: vlan: protocol: {:#x}", i, vlan->protocol);
    }
  }
  return {};
}

// A VLAN has its parent's MAC as a rule.
bool SharesNic(const Interface& a, const Interface& b) {
  return !a.vlan && !b.vlan && a.name != "lo" && b.name != "lo" && a.nic_mac == b.nic_mac;
}

Status CheckUnique(const std::vector<Interface>& interfaces) {
  for (size_t i = 0; i < interfaces.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (interfaces[i].name == interfaces[j].name) {
        return Refuse("interfaces[{}]: name: {} is that of interfaces[{}]", i, interfaces[i].name,
                      j);
      }
      if (SharesNic(interfaces[i], interfaces[j])) {
        return Refuse("interfaces[{}]: nic_mac: {} is that of interfaces[{}]", i,
                      MacText(interfaces[i].nic_mac), j);
      }
    }
  }
  return {};
}

Status CheckRoute(Route& route, const Network& network) {
  TRY_AS(CheckFamily(route.family), "family");
  TRY_AS(CheckSubnet(route.destination, route.prefix, route.family), "destination");
  TRY_AS(CheckIp(route.source, SizeOf(route.family)), "source");
  // IPv4 may go by way of an IPv6 router.
  if (route.family != AF_INET || route.gateway.size() != 16) {
    TRY_AS(CheckIp(route.gateway, SizeOf(route.family)), "gateway");
  }
  if (route.scope > kMaxScope) {
    return Refuse("scope: {}", route.scope);
  }
  if (route.type > RTN_THROW) {
    return Refuse("type: {}", route.type);
  }
  Normalize(route);
  if (!IsReject(route)) {
    TRY_AS(CheckDevice(route.device, network), "device");
  }
  return {};
}

Status CheckNeighbour(const Neighbour& neighbour, const Network& network) {
  if (neighbour.ip.size() != 4 && neighbour.ip.size() != 16) {
    return Refuse("ip: {} bytes, not 4 or 16", neighbour.ip.size());
  }
  if (neighbour.mac.size() != kMacBytes) {
    return Refuse("mac: {} bytes, not {}", neighbour.mac.size(), kMacBytes);
  }
  TRY_AS(CheckDevice(neighbour.device, network), "device");
  return {};
}

Status CheckRule(Rule& rule) {
  TRY_AS(CheckFamily(rule.family), "family");
  TRY_AS(CheckSubnet(rule.source, rule.source_prefix, rule.family), "source");
  TRY_AS(CheckSubnet(rule.destination, rule.destination_prefix, rule.family), "destination");
  for (const auto& [what, name] : {std::pair{"input", rule.input}, {"output", rule.output}}) {
    if (!name.empty()) {
      TRY_AS(CheckName(name), "{}", what);
    }
  }
  if (rule.table == 0) {
    return Refuse("table: missing");
  }
  Normalize(rule);
  return {};
}

// Those that each family has from the start; IPv6 has no table "default".
bool IsKernelRule(const Rule& rule) {
  constexpr uint32_t kMain = 32766;
  Rule bare;
  bare.family = rule.family;
  bare.priority = rule.priority;
  bare.table = rule.table;
  return rule == bare && ((rule.priority == 0 && rule.table == RT_TABLE_LOCAL) ||
                          (rule.priority == kMain && rule.table == RT_TABLE_MAIN) ||
                          (rule.priority == kMain + 1 && rule.table == RT_TABLE_DEFAULT));
}

// A path below /proc/sys/net that stays there.
Status CheckSysctl(const std::string& name, const std::string& value) {
  const bool plain =
      std::all_of(name.begin(), name.end(), [](char byte) { return byte > ' ' && byte <= '~'; });
  if (!plain || name.empty() || name.front() == '/' ||
      ("/" + name + "/").find("/../") != std::string::npos) {
    return Refuse("\"{}\" is no name of one", plain ? name.substr(0, kMaxSysctlName) : "");
  }
  return name.size() > kMaxSysctlName || value.size() > kMaxSysctlValue
             ? Refuse("{}: too long", name.substr(0, kMaxSysctlName))
             : Status();
}

template <typename T, typename F>
Status CheckEach(std::string_view what, std::vector<T>& entries, size_t limit, F check) {
  TRY_AS(CheckCount(entries.size(), limit), "{}", what);
  for (size_t i = 0; i < entries.size(); ++i) {
    TRY_AS(check(entries[i]), "{}[{}]", what, i);
  }
  return {};
}

}  // namespace

Result<Network> CheckNetwork(Network network) {
  TRY(CheckEach("interfaces", network.interfaces, kMaxInterfaces, CheckInterface));
  TRY(CheckUnique(network.interfaces));
  TRY(CheckVlans(network.interfaces));
  TRY(CheckEach("routes", network.routes, kMaxRoutes,
                [&](Route& route) { return CheckRoute(route, network); }));
  TRY(CheckEach("neighbours", network.neighbours, kMaxNeighbours,
                [&](const Neighbour& entry) { return CheckNeighbour(entry, network); }));
  TRY(CheckEach("rules", network.rules, kMaxRules, CheckRule));
  std::erase_if(network.rules, IsKernelRule);
  TRY_AS(CheckCount(network.sysctls.size(), kMaxSysctls), "sysctls");
  for (const auto& [name, value] : network.sysctls) {
    TRY_AS(CheckSysctl(name, value), "sysctls");
  }
  return network;
}

}  // namespace bulkhead::agent
