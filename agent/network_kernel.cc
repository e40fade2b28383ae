#include "agent/network_kernel.h"

#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/ipv6.h>
#include <linux/neighbour.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/sys.h"

namespace bulkhead::agent {
namespace {

// The address of a gateway of the other family.
struct Via {
  uint16_t family;
  std::array<char, 16> address;
};

uint8_t FamilyOf(const std::string& ip) { return ip.size() == 4 ? AF_INET : AF_INET6; }

// A container may have filled its pod's tables: the guest's own memory bounds them.
constexpr size_t kNoLimit = SIZE_MAX;

template <typename Header>
Result<std::vector<NetlinkAnswer>> DumpTable(Netlink& socket, uint16_t type) {
  return TRY_AS(socket.Dump(NetlinkRequest(type, 0, Header{}), kNoLimit), "read the network");
}

Link ParseLink(const NetlinkAnswer& answer) {
  const auto header = answer.As<ifinfomsg>();
  const auto attributes = answer.Attributes<ifinfomsg>();
  Link link;
  link.index = header.ifi_index;
  link.mac = attributes.Get(IFLA_ADDRESS);
  link.permanent_mac = attributes.Get(IFLA_PERM_ADDRESS);
  link.name = attributes.Text(IFLA_IFNAME);
  const auto info = attributes.Nested(IFLA_LINKINFO);
  link.kind = info.Text(IFLA_INFO_KIND);
  if (link.kind == "vlan") {
    const auto vlan = info.Nested(IFLA_INFO_DATA);
    link.parent = attributes.Value<int>(IFLA_LINK);
    link.vlan_id = vlan.Value<uint16_t>(IFLA_VLAN_ID);
    link.vlan_protocol = ntohs(vlan.Value<uint16_t>(IFLA_VLAN_PROTOCOL));
  }
  link.mtu = attributes.Value<uint32_t>(IFLA_MTU);
  link.up = (header.ifi_flags & IFF_UP) != 0;
  link.no_arp = (header.ifi_flags & IFF_NOARP) != 0;
  link.loopback = (header.ifi_flags & IFF_LOOPBACK) != 0;
  const auto inet6 = attributes.Nested(IFLA_AF_SPEC).Nested(AF_INET6);
  link.generates_address = inet6.Has(IFLA_INET6_ADDR_GEN_MODE) &&
                           inet6.Value<uint8_t>(IFLA_INET6_ADDR_GEN_MODE) != IN6_ADDR_GEN_MODE_NONE;
  // An array of 32-bit values.
  const std::string_view conf = inet6.Get(IFLA_INET6_CONF);
  constexpr size_t kAcceptRa = DEVCONF_ACCEPT_RA * sizeof(int32_t);
  link.accepts_ra = conf.size() > kAcceptRa && HeaderOf<int32_t>(conf.substr(kAcceptRa)) != 0;
  return link;
}

Address ParseAddress(const NetlinkAnswer& answer) {
  const auto header = answer.As<ifaddrmsg>();
  const auto attributes = answer.Attributes<ifaddrmsg>();
  Address address;
  address.link = static_cast<int>(header.ifa_index);
  // IFA_ADDRESS of a point-to-point link is the other end.
  address.ip = attributes.Get(attributes.Has(IFA_LOCAL) ? IFA_LOCAL : IFA_ADDRESS);
  address.prefix = header.ifa_prefixlen;
  address.broadcast = attributes.Get(IFA_BROADCAST);
  address.scope = header.ifa_scope;
  address.flags = attributes.Has(IFA_FLAGS) ? attributes.Value<uint32_t>(IFA_FLAGS)
                                            : static_cast<uint32_t>(header.ifa_flags);
  Normalize(address);
  return address;
}

void SetNextHop(const NetlinkAttributes& attributes, Route& route) {
  route.gateway = attributes.Get(RTA_GATEWAY);
  if (attributes.Has(RTA_VIA)) {
    const std::string_view via = attributes.Get(RTA_VIA);
    route.gateway = via.substr(std::min(via.size(), sizeof(uint16_t)));
  }
}

// One for each of its hops: a description has it so.
void ParseRoute(const NetlinkAnswer& answer, std::multiset<Route>& out) {
  const auto header = answer.As<rtmsg>();
  if ((header.rtm_flags & RTM_F_CLONED) != 0) {
    return;
  }
  const auto attributes = answer.Attributes<rtmsg>();
  Route route;
  route.family = header.rtm_family;
  route.destination = attributes.Get(RTA_DST);
  route.prefix = header.rtm_dst_len;
  route.source = attributes.Get(RTA_PREFSRC);
  route.link = attributes.Value<int>(RTA_OIF);
  route.metric = attributes.Value<uint32_t>(RTA_PRIORITY);
  route.scope = header.rtm_scope;
  route.table = attributes.Has(RTA_TABLE) ? attributes.Value<uint32_t>(RTA_TABLE)
                                          : static_cast<uint32_t>(header.rtm_table);
  route.type = header.rtm_type;
  route.flags = header.rtm_flags;
  route.mtu = attributes.Nested(RTA_METRICS).Value<uint32_t>(RTAX_MTU);
  SetNextHop(attributes, route);
  std::string_view hops = attributes.Get(RTA_MULTIPATH);
  if (hops.empty()) {
    Normalize(route);
    out.insert(route);
  }
  while (hops.size() >= sizeof(rtnexthop)) {
    const auto hop = HeaderOf<rtnexthop>(hops);
    if (hop.rtnh_len < sizeof(hop) || hop.rtnh_len > hops.size()) {
      return;
    }
    Route part = route;
    part.link = hop.rtnh_ifindex;
    part.flags = hop.rtnh_flags;
    SetNextHop(AttributesAfter<rtnexthop>(hops.substr(0, hop.rtnh_len)), part);
    Normalize(part);
    out.insert(std::move(part));
    hops.remove_prefix(std::min<size_t>(hops.size(), RTNH_ALIGN(hop.rtnh_len)));
  }
}

void ParseNeighbour(const NetlinkAnswer& answer, std::set<Neighbour>& out) {
  const auto header = answer.As<ndmsg>();
  const auto attributes = answer.Attributes<ndmsg>();
  if ((header.ndm_state & NUD_PERMANENT) != 0 && (header.ndm_flags & NTF_PROXY) == 0) {
    out.insert({std::string(attributes.Get(NDA_DST)), std::string(attributes.Get(NDA_LLADDR)), "",
                header.ndm_ifindex});
  }
}

void ParseRule(const NetlinkAnswer& answer, std::set<Rule>& out) {
  const auto header = answer.As<fib_rule_hdr>();
  const auto attributes = answer.Attributes<fib_rule_hdr>();
  if (header.action != FR_ACT_TO_TBL) {
    return;
  }
  Rule rule;
  rule.family = header.family;
  rule.priority = attributes.Value<uint32_t>(FRA_PRIORITY);
  rule.source = attributes.Get(FRA_SRC);
  rule.source_prefix = header.src_len;
  rule.destination = attributes.Get(FRA_DST);
  rule.destination_prefix = header.dst_len;
  rule.mark = attributes.Value<uint32_t>(FRA_FWMARK);
  rule.mask = attributes.Value<uint32_t>(FRA_FWMASK);
  rule.table = attributes.Has(FRA_TABLE) ? attributes.Value<uint32_t>(FRA_TABLE)
                                         : static_cast<uint32_t>(header.table);
  rule.input = attributes.Text(FRA_IIFNAME);
  rule.output = attributes.Text(FRA_OIFNAME);
  rule.invert = (header.flags & FIB_RULE_INVERT) != 0;
  Normalize(rule);
  out.insert(std::move(rule));
}

uint16_t TypeOf(ChangeAction action, uint16_t add, uint16_t remove) {
  return action == ChangeAction::kRemove ? remove : add;
}

// Of an entry that is not there yet; `same_place` is for one that joins others at its place.
uint16_t FlagsOf(ChangeAction action, uint16_t same_place) {
  switch (action) {
    case ChangeAction::kAdd:
      return static_cast<uint16_t>(NLM_F_CREATE | same_place);
    case ChangeAction::kReplace:
      return NLM_F_CREATE | NLM_F_REPLACE;
    case ChangeAction::kRemove:
      break;
  }
  return 0;
}

NetlinkRequest ToMessage(const LinkChange& change) {
  ifinfomsg header{};
  header.ifi_index = change.link;
  if (change.up) {
    header.ifi_change |= IFF_UP;
    header.ifi_flags |= *change.up ? uint32_t{IFF_UP} : 0U;
  }
  if (change.no_arp) {
    header.ifi_change |= IFF_NOARP;
    header.ifi_flags |= *change.no_arp ? uint32_t{IFF_NOARP} : 0U;
  }
  NetlinkRequest message(RTM_NEWLINK, 0, header);
  if (!change.name.empty()) {
    message.PutText(IFLA_IFNAME, change.name);
  }
  if (change.mtu != 0) {
    message.PutValue(IFLA_MTU, change.mtu);
  }
  if (!change.mac.empty()) {
    message.Put(IFLA_ADDRESS, change.mac);
  }
  if (change.no_generated_address) {
    const size_t families = message.Begin(IFLA_AF_SPEC);
    const size_t inet6 = message.Begin(AF_INET6);
    message.PutValue<uint8_t>(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
    message.End(inet6);
    message.End(families);
  }
  return message;
}

NetlinkRequest ToMessage(const VlanCreation& change) {
  NetlinkRequest message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, ifinfomsg{});
  message.PutText(IFLA_IFNAME, change.name);
  message.PutValue(IFLA_LINK, change.parent);
  message.Put(IFLA_ADDRESS, change.mac);
  const size_t info = message.Begin(IFLA_LINKINFO);
  message.PutText(IFLA_INFO_KIND, "vlan");
  const size_t data = message.Begin(IFLA_INFO_DATA);
  message.PutValue(IFLA_VLAN_ID, static_cast<uint16_t>(change.id));
  message.PutValue(IFLA_VLAN_PROTOCOL, htons(static_cast<uint16_t>(change.protocol)));
  message.End(data);
  message.End(info);
  return message;
}

NetlinkRequest ToMessage(const LinkRemoval& change) {
  ifinfomsg header{};
  header.ifi_index = change.link;
  return {RTM_DELLINK, 0, header};
}

NetlinkRequest ToMessage(const EntryChange<Address>& change) {
  const Address& address = change.entry;
  ifaddrmsg header{};
  header.ifa_family = FamilyOf(address.ip);
  header.ifa_prefixlen = static_cast<uint8_t>(address.prefix);
  header.ifa_scope = static_cast<uint8_t>(address.scope);
  header.ifa_index = static_cast<uint32_t>(address.link);
  NetlinkRequest message(TypeOf(change.action, RTM_NEWADDR, RTM_DELADDR),
                         FlagsOf(change.action, NLM_F_REPLACE), header);
  message.Put(IFA_LOCAL, address.ip);
  message.Put(IFA_ADDRESS, address.ip);
  if (!address.broadcast.empty()) {
    message.Put(IFA_BROADCAST, address.broadcast);
  }
  // The host's side has made sure that it is unique; detection would keep it unusable for a second.
  const uint32_t no_detection = header.ifa_family == AF_INET6 ? IFA_F_NODAD : 0;
  message.PutValue(IFA_FLAGS, address.flags | no_detection);
  return message;
}

void AddGateway(const Route& route, NetlinkRequest& message) {
  if (route.gateway.empty()) {
    return;
  }
  if (FamilyOf(route.gateway) == route.family) {
    message.Put(RTA_GATEWAY, route.gateway);
    return;
  }
  Via via{AF_INET6, {}};
  route.gateway.copy(via.address.data(), via.address.size());
  message.PutValue(RTA_VIA, via);
}

NetlinkRequest ToMessage(const EntryChange<Route>& change) {
  constexpr uint32_t kSmallTables = 256;
  const Route& route = change.entry;
  rtmsg header{};
  header.rtm_family = static_cast<uint8_t>(route.family);
  header.rtm_dst_len = static_cast<uint8_t>(route.prefix);
  header.rtm_table =
      route.table < kSmallTables ? static_cast<uint8_t>(route.table) : uint8_t{RT_TABLE_UNSPEC};
  header.rtm_protocol = change.action == ChangeAction::kRemove ? RTPROT_UNSPEC : RTPROT_BOOT;
  header.rtm_scope = static_cast<uint8_t>(route.scope);
  header.rtm_type = static_cast<uint8_t>(route.type);
  header.rtm_flags = route.flags;
  NetlinkRequest message(TypeOf(change.action, RTM_NEWROUTE, RTM_DELROUTE),
                         FlagsOf(change.action, NLM_F_APPEND), header);
  message.PutValue(RTA_TABLE, route.table);
  if (!route.destination.empty()) {
    message.Put(RTA_DST, route.destination);
  }
  AddGateway(route, message);
  if (!route.source.empty()) {
    message.Put(RTA_PREFSRC, route.source);
  }
  if (route.link != 0) {
    message.PutValue(RTA_OIF, route.link);
  }
  if (route.metric != 0) {
    message.PutValue(RTA_PRIORITY, route.metric);
  }
  if (route.mtu != 0) {
    const size_t metrics = message.Begin(RTA_METRICS);
    message.PutValue(RTAX_MTU, route.mtu);
    message.End(metrics);
  }
  return message;
}

NetlinkRequest ToMessage(const EntryChange<Neighbour>& change) {
  const Neighbour& neighbour = change.entry;
  ndmsg header{};
  header.ndm_family = FamilyOf(neighbour.ip);
  header.ndm_ifindex = neighbour.link;
  header.ndm_state = NUD_PERMANENT;
  NetlinkRequest message(TypeOf(change.action, RTM_NEWNEIGH, RTM_DELNEIGH),
                         FlagsOf(change.action, NLM_F_REPLACE), header);
  message.Put(NDA_DST, neighbour.ip);
  message.Put(NDA_LLADDR, neighbour.mac);
  return message;
}

NetlinkRequest ToMessage(const EntryChange<Rule>& change) {
  const Rule& rule = change.entry;
  fib_rule_hdr header{};
  header.family = static_cast<uint8_t>(rule.family);
  header.src_len = static_cast<uint8_t>(rule.source_prefix);
  header.dst_len = static_cast<uint8_t>(rule.destination_prefix);
  header.action = FR_ACT_TO_TBL;
  header.flags = rule.invert ? uint32_t{FIB_RULE_INVERT} : 0U;
  NetlinkRequest message(TypeOf(change.action, RTM_NEWRULE, RTM_DELRULE),
                         FlagsOf(change.action, NLM_F_EXCL), header);
  message.PutValue(FRA_PRIORITY, rule.priority);
  message.PutValue(FRA_TABLE, rule.table);
  if (!rule.source.empty()) {
    message.Put(FRA_SRC, rule.source);
  }
  if (!rule.destination.empty()) {
    message.Put(FRA_DST, rule.destination);
  }
  if (rule.mark != 0 || rule.mask != 0) {
    message.PutValue(FRA_FWMARK, rule.mark);
    message.PutValue(FRA_FWMASK, rule.mask);
  }
  if (!rule.input.empty()) {
    message.PutText(FRA_IIFNAME, rule.input);
  }
  if (!rule.output.empty()) {
    message.PutText(FRA_OIFNAME, rule.output);
  }
  return message;
}

Status Apply(Netlink& socket, const LinkChange& change) {
  return socket.Execute(ToMessage(change));
}

Status Apply(Netlink& socket, const VlanCreation& change) {
  return socket.Execute(ToMessage(change));
}

Status Apply(Netlink& socket, const LinkRemoval& change) {
  const Status removed = socket.Execute(ToMessage(change));
  return !removed && removed.error().errnum() == ENODEV ? Status() : removed;
}

Status Apply(Netlink& /*socket*/, const SysctlChange& change) {
  return sys::WriteExisting("/proc/sys/" + change.name, change.value);
}

template <typename T>
bool IsDone(const EntryChange<T>& change, int error) {
  if (change.action != ChangeAction::kRemove) {
    return error == EEXIST;
  }
  constexpr std::array kGone{ESRCH, ENOENT, EADDRNOTAVAIL, ENODEV};
  return std::find(kGone.begin(), kGone.end(), error) != kGone.end();
}

template <typename T>
Status Apply(Netlink& socket, const EntryChange<T>& change) {
  Status status = socket.Execute(ToMessage(change));
  return !status && IsDone(change, status.error().errnum()) ? Status() : status;
}

}  // namespace

Result<std::vector<Link>> ReadLinks(Netlink& socket) {
  std::vector<Link> out;
  for (const NetlinkAnswer& answer : TRY(DumpTable<ifinfomsg>(socket, RTM_GETLINK))) {
    out.push_back(ParseLink(answer));
  }
  return out;
}

Result<NetworkState> ReadNetwork(Netlink& socket) {
  NetworkState out;
  out.links = TRY(ReadLinks(socket));
  for (const NetlinkAnswer& answer : TRY(DumpTable<ifaddrmsg>(socket, RTM_GETADDR))) {
    out.addresses.insert(ParseAddress(answer));
  }
  for (const NetlinkAnswer& answer : TRY(DumpTable<rtmsg>(socket, RTM_GETROUTE))) {
    ParseRoute(answer, out.routes);
  }
  for (const NetlinkAnswer& answer : TRY(DumpTable<ndmsg>(socket, RTM_GETNEIGH))) {
    ParseNeighbour(answer, out.neighbours);
  }
  for (const NetlinkAnswer& answer : TRY(DumpTable<fib_rule_hdr>(socket, RTM_GETRULE))) {
    ParseRule(answer, out.rules);
  }
  return out;
}

Status ApplyChange(Netlink& socket, const NetworkChange& change) {
  TRY_AS(std::visit([&](const auto& value) { return Apply(socket, value); }, change), "{}",
         ToText(change));
  return {};
}

}  // namespace bulkhead::agent
