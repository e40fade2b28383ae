#include "shim/network/netns_scan.h"

#include <linux/fib_rules.h>
#include <linux/if.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/ipv6.h>
#include <linux/neighbour.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string_view>

namespace bulkhead::shim {
namespace {

namespace pb = agent::v1;

// An IPv6 null route of the kernel's own.
constexpr uint32_t kNeverMetric = 0xffffffff;

// On top of another interface of the namespace.
struct Vlan {
  uint32_t index = 0;
  uint32_t parent = 0;
  pb::Network::Interface interface;
};

// Put together table by table.
class Scan {
 public:
  explicit Scan(Netlink& netlink) : netlink_(netlink) {}
  Result<NetnsState> Run();

 private:
  Status ReadLinks();
  void TakeLink(const NetlinkAnswer& answer);
  void TakeVlans();
  void Describe(uint32_t index, pb::Network::Interface interface);
  void TellNicsApart();
  Status ReadAddresses();
  Status ReadRoutes(uint8_t family);
  void TakeRoute(const NetlinkAnswer& answer);
  // One for each way of a route of several.
  void TakeWay(pb::Network::Route route, uint32_t device, uint32_t flags,
               const NetlinkAttributes& way);
  void KeepFromRoutes();
  Status ReadNeighbours();
  Status ReadRules(uint8_t family);
  void TakeRule(const NetlinkAnswer& answer);
  template <typename... Args>
  void LeaveOut(fmt::format_string<Args...> format, Args&&... args) {
    state_.left_out.push_back(fmt::format(format, std::forward<Args>(args)...));
  }

  Netlink& netlink_;
  NetnsState state_;
  std::map<uint32_t, std::string> names_;  // of what the guest has, by index
  std::vector<Vlan> vlans_;
  std::vector<uint32_t> indices_;  // of the described interfaces, in their order
  std::map<uint32_t, pb::Network::Interface*> described_;  // by index
};

template <typename Header>
NetlinkRequest DumpOf(uint16_t type, const Header& header) {
  return NetlinkRequest(type, 0, header);
}

Result<NetnsState> Scan::Run() {
  TRY_AS(ReadLinks(), "interfaces");
  TellNicsApart();
  TRY_AS(ReadAddresses(), "addresses");
  for (const uint8_t family : {AF_INET, AF_INET6}) {
    TRY_AS(ReadRoutes(family), "routes");
    TRY_AS(ReadRules(family), "rules");
  }
  KeepFromRoutes();
  auto& routes = *state_.network.mutable_routes();
  std::stable_partition(routes.pointer_begin(), routes.pointer_end(),
                        [](const pb::Network::Route* route) { return route->gateway().empty(); });
  TRY_AS(ReadNeighbours(), "neighbours");
  return std::move(state_);
}

// --- interfaces

bool IsOurTap(std::string_view name, std::string_view kind) {
  return (kind == "tun" || kind == "macvtap") && name.starts_with(kTapPrefix);
}

// Frames for it come through another interface of the namespace, which is carried itself.
bool LiesOnAnother(const NetlinkAttributes& link, std::string_view kind) {
  constexpr std::array<std::string_view, 5> kUpper{"vlan", "macvlan", "macvtap", "ipvlan",
                                                   "ipvtap"};
  return link.Has(IFLA_LINK) && !link.Has(IFLA_LINK_NETNSID) &&
         std::find(kUpper.begin(), kUpper.end(), kind) != kUpper.end();
}

// Whether the host's stack would have heeded what routers announce there.
bool AcceptsRa(const NetlinkAttributes& link) {
  const std::string_view values = link.Nested(IFLA_AF_SPEC).Nested(AF_INET6).Get(IFLA_INET6_CONF);
  const auto value = [&](size_t at) {
    const size_t begin = at * sizeof(int32_t);
    return begin < values.size() ? HeaderOf<int32_t>(values.substr(begin)) : 0;
  };
  constexpr int32_t kEvenRouters = 2;
  return value(DEVCONF_DISABLE_IPV6) == 0 && value(DEVCONF_ACCEPT_RA) != 0 &&
         (value(DEVCONF_FORWARDING) == 0 || value(DEVCONF_ACCEPT_RA) == kEvenRouters);
}

pb::Network::Interface DescriptionOf(const ifinfomsg& info, const NetlinkAttributes& link) {
  pb::Network::Interface out;
  out.set_mac(link.Binary(IFLA_ADDRESS));
  out.set_name(link.Text(IFLA_IFNAME));
  out.set_mtu(link.Value<uint32_t>(IFLA_MTU));
  out.set_up((info.ifi_flags & IFF_UP) != 0);
  out.set_no_arp((info.ifi_flags & IFF_NOARP) != 0);
  out.set_accept_ra(AcceptsRa(link));
  return out;
}

Status Scan::ReadLinks() {
  NetlinkRequest request = DumpOf(RTM_GETLINK, ifinfomsg{});
  request.PutValue(IFLA_EXT_MASK, uint32_t{RTEXT_FILTER_SKIP_STATS});
  auto answers = TRY(netlink_.Dump(request, kMaxLinks));
  // Before Linux 6.9 they come in the order of a hash.
  std::sort(answers.begin(), answers.end(), [](const NetlinkAnswer& a, const NetlinkAnswer& b) {
    return a.As<ifinfomsg>().ifi_index < b.As<ifinfomsg>().ifi_index;
  });
  for (const NetlinkAnswer& answer : answers) {
    if (answer.type == RTM_NEWLINK) {
      TakeLink(answer);
    }
  }
  if (state_.interfaces.size() > kMaxInterfaces) {
    return MakeError(ErrorCode::kResourceExhausted, "{}: at most {} are carried into a VM",
                     state_.interfaces.size(), kMaxInterfaces);
  }
  TakeVlans();
  // Their addresses stay valid from here on.
  for (int i = 0; i < state_.network.interfaces_size(); ++i) {
    described_[indices_[static_cast<size_t>(i)]] = state_.network.mutable_interfaces(i);
  }
  return {};
}

void Scan::Describe(uint32_t index, pb::Network::Interface interface) {
  names_[index] = interface.name();
  indices_.push_back(index);
  *state_.network.add_interfaces() = std::move(interface);
}

// After the interfaces that they are on, which may be VLANs themselves.
void Scan::TakeVlans() {
  const auto has_parent = [this](const Vlan& vlan) { return names_.contains(vlan.parent); };
  for (auto next = vlans_.begin();
       indices_.size() < kMaxDescribed &&
       (next = std::find_if(vlans_.begin(), vlans_.end(), has_parent)) != vlans_.end();) {
    next->interface.mutable_vlan()->set_link(names_[next->parent]);
    Describe(next->index, std::move(next->interface));
    vlans_.erase(next);
  }
  for (const Vlan& vlan : vlans_) {
    if (has_parent(vlan)) {
      LeaveOut("interface {} (vlan): there are more than {}", vlan.interface.name(), kMaxDescribed);
    } else {
      LeaveOut("interface {} (vlan): the one that it lies on is not carried",
               vlan.interface.name());
    }
  }
}

void Scan::TakeLink(const NetlinkAnswer& answer) {
  const auto info = answer.As<ifinfomsg>();
  const auto link = answer.Attributes<ifinfomsg>();
  const std::string name = link.Text(IFLA_IFNAME);
  const std::string kind = link.Nested(IFLA_LINKINFO).Text(IFLA_INFO_KIND);
  const auto index = static_cast<uint32_t>(info.ifi_index);
  if ((info.ifi_flags & IFF_LOOPBACK) != 0) {
    names_[index] = name;
    return;
  }
  const std::string mac = link.Binary(IFLA_ADDRESS);
  HostInterface interface {
    index, name, {}, link.Value<uint32_t>(IFLA_MTU), kind, {}
  };
  const bool ethernet = info.ifi_type == ARPHRD_ETHER && mac.size() == interface.mac.size();
  std::copy_n(mac.begin(), ethernet ? mac.size() : 0, interface.mac.begin());
  // A port's frames are its master's; devices that the kernel makes by itself have no address.
  const bool idle = (info.ifi_flags & IFF_UP) == 0 && interface.mac == hypervisor::MacAddress{};
  if (IsOurTap(name, kind) || link.Has(IFLA_MASTER) || idle) {
    return;
  }
  state_.is_bare = false;
  if (!ethernet) {
    LeaveOut("interface {} ({}): it carries no Ethernet frames", name, kind);
    return;
  }
  pb::Network::Interface described = DescriptionOf(info, link);
  if (LiesOnAnother(link, kind) && kind == "vlan") {
    const auto data = link.Nested(IFLA_LINKINFO).Nested(IFLA_INFO_DATA);
    described.mutable_vlan()->set_id(data.Value<uint16_t>(IFLA_VLAN_ID));
    described.mutable_vlan()->set_protocol(ntohs(data.Value<uint16_t>(IFLA_VLAN_PROTOCOL)));
    vlans_.push_back({index, link.Value<uint32_t>(IFLA_LINK), std::move(described)});
    return;
  }
  if (LiesOnAnother(link, kind)) {
    LeaveOut("interface {} ({}): it lies on another interface of the pod", name, kind);
    return;
  }
  Describe(index, std::move(described));
  state_.interfaces.push_back(std::move(interface));
}

// Two ipvlans of one parent are alike but for their IP addresses.
void Scan::TellNicsApart() {
  std::set<hypervisor::MacAddress> seen;
  for (HostInterface& interface : state_.interfaces) {
    interface.nic_mac = interface.mac;
    if (!seen.insert(interface.mac).second) {
      const uint32_t index = interface.index;  // locally administered, of this interface alone
      interface.nic_mac = {0x02,
                           'B',
                           static_cast<uint8_t>(index >> 24U),
                           static_cast<uint8_t>(index >> 16U),
                           static_cast<uint8_t>(index >> 8U),
                           static_cast<uint8_t>(index)};
      described_[index]->set_nic_mac(interface.nic_mac.data(), interface.nic_mac.size());
    }
  }
}

// --- addresses

Status Scan::ReadAddresses() {
  for (const NetlinkAnswer& answer :
       TRY(netlink_.Dump(DumpOf(RTM_GETADDR, ifaddrmsg{}), kMaxAddresses))) {
    const auto info = answer.As<ifaddrmsg>();
    const auto address = answer.Attributes<ifaddrmsg>();
    const auto interface = described_.find(info.ifa_index);
    const uint32_t flags =
        address.Has(IFA_FLAGS) ? address.Value<uint32_t>(IFA_FLAGS) : info.ifa_flags;
    if (answer.type != RTM_NEWADDR || interface == described_.end() ||
        (info.ifa_family != AF_INET && info.ifa_family != AF_INET6) ||
        (flags & IFA_F_DADFAILED) != 0) {
      continue;
    }
    if (interface->second->accept_ra() && info.ifa_family == AF_INET6 &&
        (flags & IFA_F_PERMANENT) == 0) {
      continue;  // the guest hears of it by itself, and again before it ends
    }
    pb::Network::Address& described = *interface->second->add_addresses();
    // IFA_ADDRESS is the peer's on a point-to-point link.
    described.set_ip(address.Binary(address.Has(IFA_LOCAL) ? IFA_LOCAL : IFA_ADDRESS));
    described.set_prefix(info.ifa_prefixlen);
    described.set_broadcast(address.Binary(IFA_BROADCAST));
    described.set_scope(info.ifa_scope);
    described.set_flags(flags & (IFA_F_NODAD | IFA_F_NOPREFIXROUTE));
  }
  return {};
}

// --- routes

// The kernel keeps the bits beyond the prefix as they were given, and does not look at them.
std::string Masked(std::string ip, uint32_t prefix) {
  for (size_t i = 0; i < ip.size(); ++i) {
    const size_t kept = std::clamp<size_t>(prefix, 8 * i, 8 * i + 8) - 8 * i;
    ip[i] = static_cast<char>(static_cast<uint8_t>(ip[i]) & (0xff00U >> kept));
  }
  return ip;
}

bool IsWantedRoute(const rtmsg& info, uint32_t table, const NetlinkAttributes& route) {
  const bool kernels_null = info.rtm_family == AF_INET6 && info.rtm_type == RTN_UNREACHABLE &&
                            route.Value<uint32_t>(RTA_PRIORITY) == kNeverMetric;
  constexpr std::array<uint8_t, 6> kTypes{RTN_UNICAST,     RTN_LOCAL,    RTN_BLACKHOLE,
                                          RTN_UNREACHABLE, RTN_PROHIBIT, RTN_THROW};
  return table != RT_TABLE_LOCAL && table != RT_TABLE_UNSPEC &&
         (info.rtm_flags & RTM_F_CLONED) == 0 && !kernels_null &&
         std::find(kTypes.begin(), kTypes.end(), info.rtm_type) != kTypes.end();
}

// By an IPv6 router: it ends unless that says so again.
bool IsAnnounced(const rtmsg& info, const NetlinkAttributes& route) {
  return info.rtm_family == AF_INET6 &&
         (info.rtm_protocol == RTPROT_RA ||
          route.Value<rta_cacheinfo>(RTA_CACHEINFO).rta_expires != 0);
}

Status Scan::ReadRoutes(uint8_t family) {
  rtmsg header{};
  header.rtm_family = family;
  for (const NetlinkAnswer& answer : TRY(netlink_.Dump(DumpOf(RTM_GETROUTE, header), kMaxRoutes))) {
    if (answer.type == RTM_NEWROUTE) {
      TakeRoute(answer);
    }
  }
  return {};
}

void Scan::TakeRoute(const NetlinkAnswer& answer) {
  const auto info = answer.As<rtmsg>();
  const auto attributes = answer.Attributes<rtmsg>();
  const uint32_t table =
      attributes.Has(RTA_TABLE) ? attributes.Value<uint32_t>(RTA_TABLE) : info.rtm_table;
  const auto device = described_.find(attributes.Value<uint32_t>(RTA_OIF));
  const bool guest_hears =
      IsAnnounced(info, attributes) && device != described_.end() && device->second->accept_ra();
  if (!IsWantedRoute(info, table, attributes) || guest_hears) {
    return;
  }
  pb::Network::Route route;
  route.set_family(info.rtm_family);
  route.set_destination(attributes.Binary(RTA_DST));
  route.set_prefix(info.rtm_dst_len);
  route.set_source(attributes.Binary(RTA_PREFSRC));
  route.set_metric(attributes.Value<uint32_t>(RTA_PRIORITY));
  route.set_scope(info.rtm_scope);
  route.set_table(table);
  route.set_type(info.rtm_type);
  route.set_mtu(attributes.Nested(RTA_METRICS).Value<uint32_t>(RTAX_MTU));
  std::string_view hops = attributes.Get(RTA_MULTIPATH);
  if (hops.empty()) {
    TakeWay(std::move(route), attributes.Value<uint32_t>(RTA_OIF), info.rtm_flags, attributes);
    return;
  }
  while (hops.size() >= sizeof(rtnexthop)) {
    const auto hop = HeaderOf<rtnexthop>(hops);
    const size_t end = std::clamp<size_t>(hop.rtnh_len, sizeof(hop), hops.size());
    TakeWay(route, static_cast<uint32_t>(hop.rtnh_ifindex), hop.rtnh_flags,
            AttributesAfter<rtnexthop>(hops.substr(0, end)));
    hops.remove_prefix(std::min<size_t>(RTNH_ALIGN(end), hops.size()));
  }
}

void Scan::TakeWay(pb::Network::Route route, uint32_t device, uint32_t flags,
                   const NetlinkAttributes& way) {
  route.set_flags(flags & RTNH_F_ONLINK);
  route.set_gateway(way.Binary(RTA_GATEWAY));
  if (const std::string via = way.Binary(RTA_VIA); via.size() > sizeof(uint16_t)) {
    route.set_gateway(via.substr(sizeof(uint16_t)));  // of the other family, which stands first
  }
  const bool leads_somewhere = route.type() == RTN_UNICAST || route.type() == RTN_LOCAL;
  if (const auto name = names_.find(device); name != names_.end()) {
    route.set_device(name->second);
  } else if (leads_somewhere) {
    return;  // by an interface that the guest does not have
  }
  *state_.network.add_routes() = std::move(route);
}

// What the kernel makes for an address by itself.
bool IsPrefixRoute(const pb::Network::Route& route, const std::string& device,
                   const pb::Network::Address& address) {
  constexpr uint32_t kMetric6 = 256;
  return route.device() == device && route.prefix() == address.prefix() &&
         route.destination() == Masked(address.ip(), address.prefix()) && route.gateway().empty() &&
         route.table() == RT_TABLE_MAIN &&
         route.metric() == (route.family() == AF_INET6 ? kMetric6 : 0);
}

// In the guest an address brings no route to its network where somebody has taken that away, or put
// another one in its place: ptp and sbr of the CNI do.
void Scan::KeepFromRoutes() {
  const auto& routes = state_.network.routes();
  for (pb::Network::Interface& interface : *state_.network.mutable_interfaces()) {
    for (pb::Network::Address& address : *interface.mutable_addresses()) {
      const bool brings = interface.up() && address.prefix() < 8 * address.ip().size();
      if (brings && std::none_of(routes.begin(), routes.end(), [&](const auto& route) {
            return IsPrefixRoute(route, interface.name(), address);
          })) {
        address.set_flags(address.flags() | IFA_F_NOPREFIXROUTE);
      }
    }
  }
}

// --- neighbours

Status Scan::ReadNeighbours() {
  for (const NetlinkAnswer& answer :
       TRY(netlink_.Dump(DumpOf(RTM_GETNEIGH, ndmsg{}), kMaxNeighbours))) {
    const auto info = answer.As<ndmsg>();
    const auto neighbour = answer.Attributes<ndmsg>();
    const auto interface = described_.find(static_cast<uint32_t>(info.ndm_ifindex));
    const std::string mac = neighbour.Binary(NDA_LLADDR);
    if (answer.type != RTM_NEWNEIGH || interface == described_.end() ||
        (info.ndm_family != AF_INET && info.ndm_family != AF_INET6) ||
        (info.ndm_state & NUD_PERMANENT) == 0 || (info.ndm_flags & NTF_PROXY) != 0 ||
        mac.size() != hypervisor::MacAddress{}.size()) {
      continue;
    }
    pb::Network::Neighbour& described = *state_.network.add_neighbours();
    described.set_ip(neighbour.Binary(NDA_DST));
    described.set_mac(mac);
    described.set_device(interface->second->name());
  }
  return {};
}

// --- rules

// The rules that each family begins with.
bool IsKernelsRule(const pb::Network::Rule& rule) {
  pb::Network::Rule plain;
  plain.set_family(rule.family());
  plain.set_priority(rule.priority());
  plain.set_table(rule.table());
  const bool of_three = (rule.priority() == 0 && rule.table() == RT_TABLE_LOCAL) ||
                        (rule.priority() == 32766 && rule.table() == RT_TABLE_MAIN) ||
                        (rule.priority() == 32767 && rule.table() == RT_TABLE_DEFAULT);
  return of_three && rule.SerializeAsString() == plain.SerializeAsString();
}

// What the guest could not be told would make the rule one of another meaning.
bool HasMore(const fib_rule_hdr& info, const NetlinkAttributes& rule) {
  constexpr std::array<uint16_t, 8> kMore{FRA_GOTO,        FRA_FLOW,       FRA_TUN_ID,
                                          FRA_L3MDEV,      FRA_UID_RANGE,  FRA_IP_PROTO,
                                          FRA_SPORT_RANGE, FRA_DPORT_RANGE};
  const bool suppresses = rule.Has(FRA_SUPPRESS_PREFIXLEN) &&
                          rule.Value<uint32_t>(FRA_SUPPRESS_PREFIXLEN) != 0xffffffff;
  return info.action != FR_ACT_TO_TBL || info.tos != 0 || suppresses ||
         rule.Has(FRA_SUPPRESS_IFGROUP) ||
         std::any_of(kMore.begin(), kMore.end(), [&](uint16_t type) { return rule.Has(type); });
}

Status Scan::ReadRules(uint8_t family) {
  fib_rule_hdr header{};
  header.family = family;
  for (const NetlinkAnswer& answer : TRY(netlink_.Dump(DumpOf(RTM_GETRULE, header), kMaxRules))) {
    if (answer.type == RTM_NEWRULE) {
      TakeRule(answer);
    }
  }
  return {};
}

void Scan::TakeRule(const NetlinkAnswer& answer) {
  const auto info = answer.As<fib_rule_hdr>();
  const auto attributes = answer.Attributes<fib_rule_hdr>();
  pb::Network::Rule rule;
  rule.set_family(info.family);
  rule.set_priority(attributes.Value<uint32_t>(FRA_PRIORITY));
  rule.set_source(Masked(attributes.Binary(FRA_SRC), info.src_len));
  rule.set_source_prefix(info.src_len);
  rule.set_destination(Masked(attributes.Binary(FRA_DST), info.dst_len));
  rule.set_destination_prefix(info.dst_len);
  rule.set_mark(attributes.Value<uint32_t>(FRA_FWMARK));
  rule.set_mask(attributes.Value<uint32_t>(FRA_FWMASK));
  rule.set_table(attributes.Has(FRA_TABLE) ? attributes.Value<uint32_t>(FRA_TABLE) : info.table);
  rule.set_input(attributes.Text(FRA_IIFNAME));
  rule.set_output(attributes.Text(FRA_OIFNAME));
  rule.set_invert((info.flags & FIB_RULE_INVERT) != 0);
  if (HasMore(info, attributes)) {
    LeaveOut("routing rule {}: it asks or does what the guest is not told", rule.priority());
  } else if (!IsKernelsRule(rule)) {
    *state_.network.add_rules() = std::move(rule);
  }
}

}  // namespace

Result<NetnsState> ScanNetns(Netlink& netlink) { return Scan(netlink).Run(); }

}  // namespace bulkhead::shim
