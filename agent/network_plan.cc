#include "agent/network_plan.h"

#include <fmt/format.h>
#include <linux/if_ether.h>
#include <linux/rtnetlink.h>

#include <algorithm>
#include <map>
#include <tuple>

namespace bulkhead::agent {
namespace {

constexpr uint32_t kMinMtu6 = 1280;

const Link* FindLoopback(const std::vector<Link>& links) {
  const auto found =
      std::find_if(links.begin(), links.end(), [](const Link& link) { return link.loopback; });
  return found == links.end() ? nullptr : &*found;
}

// Links on top of a NIC (bridges) have its MAC: a NIC comes first, then who has the name.
const Link* FindNic(const Interface& wanted, const std::vector<Link>& links) {
  const Link* best = nullptr;
  const auto rank = [&](const Link& link) {
    return std::tuple(link.permanent_mac.empty(), !link.kind.empty(), link.name != wanted.name,
                      link.index);
  };
  for (const Link& link : links) {
    const std::string& mac = link.permanent_mac.empty() ? link.mac : link.permanent_mac;
    if (!link.loopback && link.kind != "vlan" && mac == wanted.nic_mac &&
        (!best || rank(link) < rank(*best))) {
      best = &link;
    }
  }
  return best;
}

const Link* FindVlan(const Vlan& vlan, int parent, const std::vector<Link>& links) {
  const auto found = std::find_if(links.begin(), links.end(), [&](const Link& link) {
    return link.kind == "vlan" && link.parent == parent && link.vlan_id == vlan.id &&
           link.vlan_protocol == vlan.protocol;
  });
  return found == links.end() ? nullptr : &*found;
}

// Until it gets its own: of nobody else, and short enough.
std::string TemporaryName(int parent, const Vlan& vlan) {
  return fmt::format("vl{:x}-{:x}{}", parent, vlan.id, vlan.protocol == ETH_P_8021AD ? "s" : "c");
}

// `by_name`: of the interfaces before it.
const Link* FindLink(const Interface& wanted, const std::vector<Link>& links,
                     const std::map<std::string, int>& by_name) {
  if (!wanted.vlan) {
    return FindNic(wanted, links);
  }
  const auto parent = by_name.find(wanted.vlan->link);
  return parent == by_name.end() ? nullptr : FindVlan(*wanted.vlan, parent->second, links);
}

void AddLink(const Link& link, const Interface& interface, NetworkSettings& out) {
  for (Address address : interface.addresses) {
    address.link = link.index;
    out.addresses.push_back(std::move(address));
  }
  out.links.emplace_back(link.index, interface);
  out.links.back().second.addresses.clear();
}

Interface Loopback(const Network& network) {
  const auto found = std::find_if(network.interfaces.begin(), network.interfaces.end(),
                                  [](const Interface& entry) { return entry.name == "lo"; });
  Interface lo = found == network.interfaces.end() ? Interface() : *found;
  lo.name = "lo";
  lo.up = true;
  lo.addresses.push_back({0, std::string("\x7f\0\0\1", 4), 8, {}, RT_SCOPE_HOST, 0});
  lo.addresses.push_back({0, std::string(15, '\0') + '\1', 128, {}, 0, 0});
  return lo;
}

template <typename T>
void InsertResolved(const std::vector<T>& entries, const std::map<std::string, int>& links,
                    std::set<T>& out) {
  for (T entry : entries) {
    const auto link = links.find(entry.device);
    entry.link = link == links.end() ? 0 : link->second;
    entry.device.clear();
    out.insert(std::move(entry));
  }
}

bool HasLink(const NetworkSettings& settings, int index) {
  return std::any_of(settings.links.begin(), settings.links.end(),
                     [&](const auto& entry) { return entry.first == index; });
}

// The phase of the links. It works on a copy of what is there and keeps that true as it goes.
class LinkPlan {
 public:
  LinkPlan(const NetworkSettings& wanted, std::vector<Link> links)
      : wanted_(wanted), links_(std::move(links)) {}

  NetworkChanges Make(const NetworkSettings& before) {
    for (Link& link : links_) {
      if (link.up && !link.loopback && HasLink(before, link.index) && !Wanted(link)) {
        SetUp(link, false);
      }
    }
    FreeNames();
    // All names first: VLANs come up with their parent, and then have none changed.
    for (Link& link : links_) {
      if (const Interface* wanted = Wanted(link)) {
        Rename(link, wanted->name);
      }
    }
    // IPv6 is there from an MTU of 1280 on; and of all before any of them is up, with its VLANs.
    for (Link& link : links_) {
      if (const Interface* wanted = Wanted(link)) {
        SettleIpv6(link, *wanted);
      }
    }
    for (Link& link : links_) {
      if (const Interface* wanted = Wanted(link)) {
        Settle(link, *wanted);
      }
    }
    return std::move(changes_);
  }

 private:
  const Interface* Wanted(const Link& link) const {
    for (const auto& [index, interface] : wanted_.links) {
      if (index == link.index) {
        return &interface;
      }
    }
    return nullptr;
  }

  bool NameTaken(const std::string& name) const {
    return std::any_of(links_.begin(), links_.end(),
                       [&](const Link& link) { return link.name == name; }) ||
           std::any_of(wanted_.links.begin(), wanted_.links.end(),
                       [&](const auto& entry) { return entry.second.name == name; });
  }

  void SetUp(Link& link, bool up) {
    LinkChange change{link.index, {}, false, 0};
    change.up = up;
    changes_.emplace_back(change);
    BecomesUp(link, up);
  }

  // VLANs come and go with their parent.
  void BecomesUp(Link& link, bool up) {
    link.up = up;
    for (Link& child : links_) {
      if (child.parent == link.index) {
        BecomesUp(child, up);
      }
    }
  }

  void Rename(Link& link, const std::string& name) {
    if (link.name == name || link.loopback) {
      return;
    }
    if (link.up) {
      SetUp(link, false);
    }
    changes_.emplace_back(LinkChange{link.index, name, false, 0});
    link.name = name;
  }

  // Who holds a name that is another's gets one in between, and keeps it if it is not described.
  void FreeNames() {
    for (const auto& [index, interface] : wanted_.links) {
      for (Link& link : links_) {
        if (link.name != interface.name || link.index == index) {
          continue;
        }
        std::string spare = fmt::format("nic{}", link.index);
        for (int i = 0; NameTaken(spare); ++i) {
          spare = fmt::format("nic{}-{}", link.index, i);
        }
        const bool was_up = link.up;
        Rename(link, spare);
        if (was_up && Wanted(link) == nullptr) {
          SetUp(link, true);
        }
      }
    }
  }

  void SettleIpv6(Link& link, const Interface& wanted) {
    if (link.loopback) {
      return;
    }
    const bool comes = link.mtu < kMinMtu6 && wanted.mtu >= kMinMtu6;
    if (wanted.mtu > link.mtu) {
      changes_.emplace_back(LinkChange{link.index, {}, false, wanted.mtu});
      link.mtu = wanted.mtu;
    }
    if (link.mtu < kMinMtu6) {
      return;
    }
    // The description has what there is to be of it.
    if (link.generates_address || comes) {
      changes_.emplace_back(LinkChange{link.index, {}, true, 0});
    }
    if (link.accepts_ra != wanted.accept_ra || comes) {
      // 2: even where it forwards, for the host has decided that.
      changes_.emplace_back(SysctlChange{fmt::format("net/ipv6/conf/{}/accept_ra", link.name),
                                         wanted.accept_ra ? "2" : "0"});
    }
  }

  void Settle(Link& link, const Interface& wanted) {
    LinkChange change{link.index, {}, false, 0};
    if (wanted.mtu != 0 && wanted.mtu != link.mtu) {
      change.mtu = wanted.mtu;
    }
    if (wanted.no_arp != link.no_arp && !link.loopback) {
      change.no_arp = wanted.no_arp;
    }
    if (wanted.mac != link.mac && !link.loopback) {
      change.mac = wanted.mac;
    }
    if (wanted.up != link.up) {
      change.up = wanted.up;
      BecomesUp(link, wanted.up);
    }
    if (change.mtu != 0 || change.no_arp || !change.mac.empty() || change.up) {
      changes_.emplace_back(change);
    }
  }

  const NetworkSettings& wanted_;
  std::vector<Link> links_;
  NetworkChanges changes_;
};

// What the kernel holds to be the same place for a route.
using RouteKey = std::tuple<uint32_t, uint32_t, std::string, uint32_t, uint32_t>;
RouteKey KeyOf(const Route& route) {
  return {route.family, route.table, route.destination, route.prefix, route.metric};
}

// Where a route of `before` gives way to another one at once, instead of being removed first: the
// only one at its place, to the only one for it.
std::set<RouteKey> Replacements(const NetworkSettings& before, const NetworkSettings& wanted,
                                const NetworkState& state) {
  std::map<RouteKey, size_t> present;
  for (const Route& route : state.routes) {
    ++present[KeyOf(route)];
  }
  std::map<RouteKey, std::vector<const Route*>> places;
  for (const Route& route : wanted.routes) {
    places[KeyOf(route)].push_back(&route);
  }
  std::set<RouteKey> out;
  for (const Route& route : before.routes) {
    const auto place = places.find(KeyOf(route));
    if (place != places.end() && place->second.size() == 1 && *place->second[0] != route &&
        present[place->first] == 1 && state.routes.contains(route)) {
      out.insert(place->first);
    }
  }
  return out;
}

template <typename Wanted, typename Present>
void AddMissing(const Wanted& wanted, const Present& present, NetworkChanges& out) {
  for (const auto& entry : wanted) {
    if (!present.contains(entry)) {
      out.push_back(EntryChange<typename Wanted::value_type>{ChangeAction::kAdd, entry});
    }
  }
}

template <typename T, typename Present>
void RemoveUnwanted(const std::set<T>& before, const std::set<T>& wanted, const Present& present,
                    NetworkChanges& out) {
  for (const T& entry : before) {
    if (!wanted.contains(entry) && present.contains(entry)) {
      out.push_back(EntryChange<T>{ChangeAction::kRemove, entry});
    }
  }
}

}  // namespace

Result<NetworkSettings> Resolve(const Network& network, const std::vector<Link>& links) {
  NetworkSettings out;
  std::map<std::string, int> by_name;
  if (const Link* lo = FindLoopback(links)) {
    AddLink(*lo, Loopback(network), out);
    by_name["lo"] = lo->index;
  }
  for (const Interface& interface : network.interfaces) {
    if (interface.name == "lo") {
      continue;
    }
    const Link* link = FindLink(interface, links, by_name);
    if (link == nullptr && interface.vlan) {
      return MakeError(ErrorCode::kNotFound, "interface {}: there is no VLAN {} on {}",
                       interface.name, interface.vlan->id, interface.vlan->link);
    }
    if (link == nullptr) {
      return MakeError(ErrorCode::kNotFound, "interface {}: none has the MAC {}", interface.name,
                       MacText(interface.nic_mac));
    }
    AddLink(*link, interface, out);
    by_name[interface.name] = link->index;
  }
  InsertResolved(network.routes, by_name, out.routes);
  InsertResolved(network.neighbours, by_name, out.neighbours);
  out.rules.insert(network.rules.begin(), network.rules.end());
  return out;
}

std::vector<std::pair<int, Interface>> VlansOf(const Network& network,
                                               const std::vector<Link>& links) {
  std::vector<std::pair<int, Interface>> out;
  std::map<std::string, int> by_name;
  for (const Interface& interface : network.interfaces) {
    if (const Link* link = FindLink(interface, links, by_name)) {
      by_name[interface.name] = link->index;
      if (interface.vlan) {
        out.emplace_back(link->index, interface);
      }
    }
  }
  return out;
}

NetworkChanges PlanVlans(const NetworkSettings& before, const Network& network,
                         const std::vector<Link>& links) {
  NetworkChanges out;
  std::map<std::string, int> by_name;
  for (const Interface& interface : network.interfaces) {
    const Link* link = FindLink(interface, links, by_name);
    const auto parent = by_name.find(interface.vlan ? interface.vlan->link : "");
    if (link != nullptr) {
      by_name[interface.name] = link->index;
    } else if (parent != by_name.end()) {
      const Vlan& vlan = *interface.vlan;
      out.emplace_back(VlanCreation{parent->second, TemporaryName(parent->second, vlan),
                                    interface.mac, vlan.id, vlan.protocol});
    }
  }
  const auto is_wanted = [&](int index) {
    return std::any_of(by_name.begin(), by_name.end(),
                       [&](const auto& entry) { return entry.second == index; });
  };
  const auto exists = [&](int index) {
    return std::any_of(links.begin(), links.end(), [&](const Link& link) {
      return link.index == index && link.kind == "vlan";
    });
  };
  for (const auto& [index, interface] : before.links) {
    if (interface.vlan && !is_wanted(index) && exists(index)) {
      out.emplace_back(LinkRemoval{index});
    }
  }
  return out;
}

NetworkSettings Union(const NetworkSettings& added, const NetworkSettings& before) {
  NetworkSettings out = added;
  for (const auto& link : before.links) {
    if (!HasLink(added, link.first)) {
      out.links.push_back(link);
    }
  }
  out.addresses.insert(out.addresses.end(), before.addresses.begin(), before.addresses.end());
  out.routes.insert(before.routes.begin(), before.routes.end());
  out.neighbours.insert(before.neighbours.begin(), before.neighbours.end());
  out.rules.insert(before.rules.begin(), before.rules.end());
  return out;
}

NetworkChanges PlanLinks(const NetworkSettings& before, const NetworkSettings& wanted,
                         const NetworkState& state) {
  return LinkPlan(wanted, state.links).Make(before);
}

NetworkChanges PlanRemovals(const NetworkSettings& before, const NetworkSettings& wanted,
                            const NetworkState& state) {
  NetworkChanges out;
  RemoveUnwanted(before.rules, wanted.rules, state.rules, out);
  RemoveUnwanted(before.neighbours, wanted.neighbours, state.neighbours, out);
  const std::set<Address> old(before.addresses.begin(), before.addresses.end());
  const std::set<Address> kept(wanted.addresses.begin(), wanted.addresses.end());
  RemoveUnwanted(old, kept, state.addresses, out);
  return out;
}

NetworkChanges PlanAddresses(const NetworkSettings& wanted, const NetworkState& state) {
  NetworkChanges out;
  AddMissing(wanted.addresses, state.addresses, out);
  return out;
}

NetworkChanges PlanRoutes(const NetworkSettings& before, const NetworkSettings& wanted,
                          const NetworkState& state) {
  NetworkChanges out;
  const auto replaced = Replacements(before, wanted, state);
  std::set<Route> old = before.routes;
  std::erase_if(old, [&](const Route& route) { return replaced.contains(KeyOf(route)); });
  RemoveUnwanted(old, wanted.routes, state.routes, out);
  for (const bool by_gateway : {false, true}) {
    for (const Route& route : wanted.routes) {
      if (route.gateway.empty() != by_gateway && !state.routes.contains(route)) {
        const bool replaces = replaced.contains(KeyOf(route));
        out.push_back(
            EntryChange<Route>{replaces ? ChangeAction::kReplace : ChangeAction::kAdd, route});
      }
    }
  }
  AddMissing(wanted.neighbours, state.neighbours, out);
  AddMissing(wanted.rules, state.rules, out);
  return out;
}

}  // namespace bulkhead::agent
