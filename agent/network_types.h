// The pod's network as values: what is wanted, what is there, what has to be done. Addresses are
// bytes in network order; a family is told by their number.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

namespace bulkhead::agent {

// An entry belongs to a link: in a description by its name (`device`), everywhere else by the
// kernel's index (`link`), and the name is empty. So equal entries are equal values.

struct Address {
  int link = 0;
  std::string ip;
  uint32_t prefix = 0;
  std::string broadcast;
  uint32_t scope = 0;
  uint32_t flags = 0;  // IFA_F_*
  auto operator<=>(const Address&) const = default;
};

struct Route {
  uint32_t family = 0;
  std::string destination;  // empty: default
  uint32_t prefix = 0;
  std::string gateway;
  std::string source;
  std::string device;
  int link = 0;
  uint32_t metric = 0;
  uint32_t scope = 0;
  uint32_t table = 0;
  uint32_t type = 0;   // RTN_*
  uint32_t flags = 0;  // RTNH_F_*
  uint32_t mtu = 0;
  auto operator<=>(const Route&) const = default;
};

struct Neighbour {
  std::string ip;
  std::string mac;
  std::string device;
  int link = 0;
  auto operator<=>(const Neighbour&) const = default;
};

struct Rule {
  uint32_t family = 0;
  uint32_t priority = 0;
  std::string source;
  uint32_t source_prefix = 0;
  std::string destination;
  uint32_t destination_prefix = 0;
  uint32_t mark = 0;
  uint32_t mask = 0;
  uint32_t table = 0;
  std::string input;
  std::string output;
  bool invert = false;
  auto operator<=>(const Rule&) const = default;
};

// On top of another interface.
struct Vlan {
  std::string link;  // the other one's name
  uint32_t id = 0;
  uint32_t protocol = 0;  // ETH_P_8021Q, ETH_P_8021AD
};

struct Interface {
  std::string mac;
  std::string name;
  uint32_t mtu = 0;  // 0: as it is
  bool up = false;
  bool no_arp = false;
  std::vector<Address> addresses;
  std::string nic_mac;  // by which its NIC is found
  std::optional<Vlan> vlan;
  bool accept_ra = false;
};

// What the host describes.
struct Network {
  std::vector<Interface> interfaces;
  std::vector<Route> routes;
  std::vector<Neighbour> neighbours;
  std::vector<Rule> rules;
  std::map<std::string, std::string> sysctls;  // by their paths below /proc/sys/net
};

// An interface that is there.
struct Link {
  int index = 0;
  std::string mac;
  std::string permanent_mac;  // of a NIC, whatever it was told since
  std::string name;
  std::string kind;  // of one that software made: "veth", "bridge"; empty for a NIC
  uint32_t mtu = 0;
  bool up = false;
  bool no_arp = false;
  bool loopback = false;
  int parent = 0;  // the link that a VLAN is on
  uint32_t vlan_id = 0;
  uint32_t vlan_protocol = 0;
  // What the kernel does by itself in IPv6: a link-local address, and what routers announce.
  bool generates_address = false;
  bool accepts_ra = false;
};

// Everything that is there.
struct NetworkState {
  std::vector<Link> links;
  std::set<Address> addresses;
  std::multiset<Route> routes;
  std::set<Neighbour> neighbours;
  std::set<Rule> rules;
};

// A description, with links instead of names.
struct NetworkSettings {
  std::vector<std::pair<int, Interface>> links;  // by index; without addresses
  std::vector<Address> addresses;                // in order: the first of a subnet is the main one
  std::set<Route> routes;
  std::set<Neighbour> neighbours;
  std::set<Rule> rules;
};

// One request to the kernel: what is set, is to be changed.
struct LinkChange {
  int link = 0;
  std::string name;
  bool no_generated_address = false;
  uint32_t mtu = 0;
  std::string mac = {};
  std::optional<bool> up = std::nullopt;
  std::optional<bool> no_arp = std::nullopt;
};

struct VlanCreation {
  int parent = 0;
  std::string name;
  std::string mac;
  uint32_t id = 0;
  uint32_t protocol = 0;
};

struct LinkRemoval {
  int link = 0;
};

// A file below /proc/sys, for what netlink has no word.
struct SysctlChange {
  std::string name;
  std::string value;
};

enum class ChangeAction { kAdd, kReplace, kRemove };

template <typename T>
struct EntryChange {
  ChangeAction action;
  T entry;
};

using NetworkChange =
    std::variant<LinkChange, VlanCreation, LinkRemoval, SysctlChange, EntryChange<Address>,
                 EntryChange<Route>, EntryChange<Neighbour>, EntryChange<Rule>>;

// For errors and tests: "add route 10.1.0.0/16 via 10.0.0.1 link 2".
std::string ToText(const NetworkChange& change);
std::string MacText(const std::string& mac);
std::string IpText(const std::string& ip);

// One spelling for each thing, the kernel's: what it fills in by itself, and what it ignores.
void Normalize(Address& address);
void Normalize(Route& route);
void Normalize(Rule& rule);
// A route that leads nowhere: the kernel takes no link for it.
bool IsReject(const Route& route);

}  // namespace bulkhead::agent
