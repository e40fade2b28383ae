#include "agent/network_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

namespace bulkhead::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::string Mac(char last) { return std::string("\x02\0\0\0\0", 5) + last; }
std::string Ip(char a, char b, char c, char d) { return {a, b, c, d}; }

Link MakeLink(int index, const std::string& name, bool up = true) {
  Link link;
  link.index = index;
  link.mac = Mac(static_cast<char>(index));
  link.name = name;
  link.mtu = 1500;
  link.up = up;
  return link;
}

Link Lo() {
  Link link = MakeLink(1, "lo");
  link.mac = std::string(6, '\0');
  link.loopback = true;
  return link;
}

Interface MakeInterface(int index, const std::string& name) {
  const std::string mac = Mac(static_cast<char>(index));
  return {mac, name, 1500, true, false, {}, mac, {}};
}

Route MakeRoute(const std::string& destination, uint32_t prefix, const std::string& gateway = "") {
  Route route;
  route.family = AF_INET;
  route.destination = destination;
  route.prefix = prefix;
  route.gateway = gateway;
  route.device = "eth0";
  route.table = RT_TABLE_MAIN;
  route.type = RTN_UNICAST;
  return route;
}

std::vector<std::string> Texts(const NetworkChanges& changes) {
  std::vector<std::string> out;
  for (const NetworkChange& change : changes) {
    out.push_back(ToText(change));
  }
  return out;
}

std::vector<std::string> LinkTexts(const Network& network, const std::vector<Link>& links,
                                   const NetworkSettings& before = {}) {
  NetworkState state;
  state.links = links;
  return Texts(PlanLinks(before, *Resolve(network, links), state));
}

TEST(NetworkPlan, ResolvesNamesAndAddsLo) {
  Network network;
  network.interfaces = {MakeInterface(5, "eth0")};
  network.interfaces[0].addresses = {{0, Ip(10, 0, 0, 2), 24, "", 0, 0},
                                     {0, Ip(10, 0, 0, 1), 24, "", 0, 0}};
  network.routes = {MakeRoute("", 0, Ip(10, 0, 0, 9))};
  network.neighbours = {{Ip(10, 0, 0, 9), Mac(9), "lo", 0}};
  const auto settings = *Resolve(network, {Lo(), MakeLink(5, "ens3")});
  std::vector<std::string> addresses;
  for (const Address& address : settings.addresses) {
    addresses.push_back(IpText(address.ip) + "@" + std::to_string(address.link));
  }
  // In the order of the description.
  EXPECT_THAT(addresses, ElementsAre("127.0.0.1@1", "::1@1", "10.0.0.2@5", "10.0.0.1@5"));
  EXPECT_EQ(settings.routes.begin()->link, 5);
  EXPECT_EQ(settings.routes.begin()->device, "");
  EXPECT_EQ(settings.neighbours.begin()->link, 1);
  const auto missing = Resolve(network, {Lo(), MakeLink(4, "eth0")});
  EXPECT_EQ(missing.error().code(), ErrorCode::kNotFound);
  EXPECT_EQ(missing.error().message(), "interface eth0: none has the MAC 02:00:00:00:00:05");
}

TEST(NetworkPlan, PrefersANicToWhatLiesOnIt) {
  Network network;
  network.interfaces = {MakeInterface(5, "eth0")};
  Link bridge = MakeLink(3, "eth0");
  bridge.mac = Mac(5);
  bridge.kind = "bridge";
  EXPECT_EQ(Resolve(network, {bridge, MakeLink(5, "ens3")})->links[0].first, 5);
  Link other = MakeLink(7, "br0");
  other.mac = Mac(5);
  other.kind = "bridge";
  EXPECT_EQ(Resolve(network, {other, bridge})->links[0].first, 3);
}

TEST(NetworkPlan, FindsANicByItsOwnAddress) {
  Network network;
  network.interfaces = {MakeInterface(5, "eth0"), MakeInterface(5, "eth1")};
  network.interfaces[1].nic_mac = Mac(6);
  Link first = MakeLink(8, "eth0");
  first.permanent_mac = Mac(5);
  first.mac = Mac(99);  // a container changed it
  Link second = MakeLink(9, "eth1");
  second.permanent_mac = second.mac = Mac(6);
  EXPECT_THAT(
      LinkTexts(network, {second, first}),
      ElementsAre("set link 9 address 02:00:00:00:00:05", "set link 8 address 02:00:00:00:00:05"));
}

class Vlans : public ::testing::Test {
 protected:
  static Interface On(const std::string& parent, uint32_t id, const std::string& name) {
    Interface interface = MakeInterface(5, name);
    interface.vlan = Vlan{parent, id, 0x8100};
    return interface;
  }
  static Link Made(int index, int parent, uint32_t id, const std::string& name) {
    Link link = MakeLink(index, name);
    link.mac = Mac(5);
    link.kind = "vlan";
    link.parent = parent;
    link.vlan_id = id;
    link.vlan_protocol = 0x8100;
    return link;
  }
  std::vector<std::string> Plan(const std::vector<Link>& links,
                                const NetworkSettings& before = {}) const {
    return Texts(PlanVlans(before, network_, links));
  }

  Network network_;
  const Link nic_ = MakeLink(5, "ens3");
};

TEST_F(Vlans, ComeAfterTheirParents) {
  network_.interfaces = {MakeInterface(5, "eth0"), On("eth0", 7, "outer"), On("outer", 9, "inner")};
  EXPECT_THAT(Plan({Lo()}), IsEmpty());
  EXPECT_THAT(Plan({Lo(), nic_}), ElementsAre("add link vl5-7c on 5 vlan 7"));
  const Link outer = Made(6, 5, 7, "vl5-7c");
  EXPECT_THAT(Plan({Lo(), nic_, outer}), ElementsAre("add link vl6-9c on 6 vlan 9"));
  const Link inner = Made(7, 6, 9, "vl6-9c");
  EXPECT_THAT(Plan({Lo(), nic_, outer, inner}), IsEmpty());
  EXPECT_THAT(LinkTexts(network_, {nic_, outer, inner}),
              ElementsAre("set link 5 down", "set link 5 name eth0", "set link 6 name outer",
                          "set link 7 name inner", "set link 5 up"));
}

TEST_F(Vlans, AreQuietBeforeTheyComeUpWithTheirParent) {
  network_.interfaces = {MakeInterface(5, "eth0"), On("eth0", 7, "v")};
  Link nic = MakeLink(5, "eth0", false);
  Link vlan = Made(6, 5, 7, "v");
  vlan.up = false;
  nic.generates_address = vlan.generates_address = true;
  EXPECT_THAT(
      LinkTexts(network_, {nic, vlan}),
      ElementsAre("set link 5 addrgenmode none", "set link 6 addrgenmode none", "set link 5 up"));
}

TEST_F(Vlans, OfBothProtocolsMayHaveOneId) {
  network_.interfaces = {MakeInterface(5, "eth0"), On("eth0", 7, "c"), On("eth0", 7, "s")};
  network_.interfaces[2].vlan->protocol = 0x88a8;
  EXPECT_THAT(Plan({nic_}),
              ElementsAre("add link vl5-7c on 5 vlan 7", "add link vl5-7s on 5 vlan 7"));
  EXPECT_EQ(Resolve(network_, {nic_}).error().message(), "interface c: there is no VLAN 7 on eth0");
  // Half of it is done: that is ours.
  EXPECT_EQ(VlansOf(network_, {nic_, Made(6, 5, 7, "vl5-7c")}).size(), 1U);
}

TEST_F(Vlans, GoWithTheirDescription) {
  network_.interfaces = {MakeInterface(5, "eth0"), On("eth0", 7, "v")};
  const std::vector<Link> links{nic_, Made(6, 5, 7, "v"), Made(7, 5, 8, "of-a-container")};
  const NetworkSettings before = *Resolve(network_, links);
  EXPECT_THAT(Plan(links, before), IsEmpty());
  network_.interfaces.pop_back();
  EXPECT_THAT(Plan(links, before), ElementsAre("remove link 6"));
  EXPECT_THAT(Plan({nic_}, before), IsEmpty());  // gone with its parent
}

TEST(NetworkPlan, LeavesALinkThatIsAsWanted) {
  Network network;
  network.interfaces = {MakeInterface(5, "eth0")};
  EXPECT_THAT(LinkTexts(network, {Lo(), MakeLink(5, "eth0")}), IsEmpty());
  network.interfaces[0].mtu = 0;
  EXPECT_THAT(LinkTexts(network, {Lo(), MakeLink(5, "eth0")}), IsEmpty());
  Link lo = Lo();
  lo.up = false;
  EXPECT_THAT(LinkTexts({}, {lo}), ElementsAre("set link 1 up"));
}

TEST(NetworkPlan, SettlesANewLinkBeforeItComesUp) {
  Network network;
  network.interfaces = {MakeInterface(5, "eth0")};
  network.interfaces[0].mtu = 1450;
  network.interfaces[0].no_arp = true;
  Link link = MakeLink(5, "ens3", false);
  link.generates_address = true;
  link.accepts_ra = true;
  EXPECT_THAT(LinkTexts(network, {link}),
              ElementsAre("set link 5 name eth0", "set link 5 addrgenmode none",
                          "set net/ipv6/conf/eth0/accept_ra 0", "set link 5 mtu 1450 noarp up"));
}

TEST(NetworkPlan, Ipv6ComesWithItsMtu) {
  Network network;
  network.interfaces = {MakeInterface(5, "eth0")};
  Link link = MakeLink(5, "eth0");
  link.mtu = 1200;  // and so the kernel tells nothing of IPv6
  EXPECT_THAT(LinkTexts(network, {link}),
              ElementsAre("set link 5 mtu 1500", "set link 5 addrgenmode none",
                          "set net/ipv6/conf/eth0/accept_ra 0"));
  network.interfaces[0].mtu = 1100;
  network.interfaces[0].accept_ra = true;
  EXPECT_THAT(LinkTexts(network, {link}), ElementsAre("set link 5 mtu 1100"));
}

TEST(NetworkPlan, SwapsNames) {
  Network network;
  network.interfaces = {MakeInterface(5, "eth1"), MakeInterface(6, "eth0")};
  EXPECT_THAT(LinkTexts(network, {MakeLink(5, "eth0"), MakeLink(6, "eth1", false)}),
              ElementsAre("set link 6 name nic6",                          // its name is wanted
                          "set link 5 down", "set link 5 name nic5",       // and so is this
                          "set link 5 name eth1", "set link 6 name eth0",  //
                          "set link 5 up", "set link 6 up"));
}

TEST(NetworkPlan, TakesANameFromAStranger) {
  Network network;
  network.interfaces = {MakeInterface(5, "eth0")};
  Link stranger = MakeLink(3, "eth0");
  stranger.kind = "dummy";
  EXPECT_THAT(LinkTexts(network, {stranger, MakeLink(4, "nic3"), MakeLink(5, "x", false)}),
              ElementsAre("set link 3 down", "set link 3 name nic3-0", "set link 3 up",
                          "set link 5 name eth0", "set link 5 up"));
}

TEST(NetworkPlan, TakesDownOnlyWhatItBroughtUp) {
  const std::vector<Link> links{Lo(), MakeLink(5, "eth0"), MakeLink(6, "docker0")};
  Network network;
  network.interfaces = {MakeInterface(5, "eth0")};
  const auto before = *Resolve(network, links);
  EXPECT_THAT(LinkTexts({}, links), IsEmpty());
  EXPECT_THAT(LinkTexts({}, links, before), ElementsAre("set link 5 down"));
}

class Entries : public ::testing::Test {
 protected:
  Entries() {
    network_.interfaces = {MakeInterface(5, "eth0")};
    state_.links = {MakeLink(5, "eth0")};
  }
  NetworkSettings Settings() const { return *Resolve(network_, state_.links); }
  // As though the kernel had done it.
  void Install(const NetworkSettings& settings) {
    state_.addresses = {settings.addresses.begin(), settings.addresses.end()};
    state_.routes = {settings.routes.begin(), settings.routes.end()};
    state_.neighbours = settings.neighbours;
    state_.rules = settings.rules;
  }

  Network network_;
  NetworkState state_;
};

TEST_F(Entries, AddsWhatIsMissingInOrder) {
  network_.interfaces[0].addresses = {{0, Ip(10, 0, 0, 5), 24, "", 0, 0}};
  network_.routes = {MakeRoute("", 0, Ip(10, 9, 9, 9)), MakeRoute(Ip(10, 9, 9, 9), 32),
                     MakeRoute(Ip(10, 0, 0, 0), 24)};
  network_.neighbours = {{Ip(10, 9, 9, 9), Mac(9), "eth0", 0}};
  Rule rule;
  rule.family = AF_INET;
  rule.priority = 7;
  rule.table = 8;
  network_.rules = {rule};
  const auto wanted = Settings();
  EXPECT_THAT(Texts(PlanAddresses(wanted, state_)), ElementsAre("add address 10.0.0.5/24 link 5"));
  Route connected = MakeRoute(Ip(10, 0, 0, 0), 24);  // the kernel's, for the address
  connected.device.clear();
  connected.link = 5;
  state_.routes.insert(connected);
  EXPECT_THAT(Texts(PlanRoutes({}, wanted, state_)),
              ElementsAre("add route 10.9.9.9/32 link 5", "add route default via 10.9.9.9 link 5",
                          "add neighbour 10.9.9.9 02:00:00:00:00:09 link 5",
                          "add rule 7 from default to default table 8"));
  Install(wanted);
  EXPECT_THAT(Texts(PlanAddresses(wanted, state_)), IsEmpty());
  EXPECT_THAT(Texts(PlanRoutes(wanted, wanted, state_)), IsEmpty());
  EXPECT_THAT(Texts(PlanRemovals(wanted, wanted, state_)), IsEmpty());
}

TEST_F(Entries, RemovesWhatWasNamedAndNothingElse) {
  network_.interfaces[0].addresses = {{0, Ip(10, 0, 0, 5), 24, "", 0, 0},
                                      {0, Ip(10, 0, 0, 6), 24, "", 0, 0}};
  network_.routes = {MakeRoute(Ip(10, 9, 0, 0), 16), MakeRoute(Ip(10, 8, 0, 0), 16)};
  network_.neighbours = {{Ip(10, 9, 9, 9), Mac(9), "eth0", 0}};
  const auto before = Settings();
  Install(before);
  state_.addresses.insert({5, Ip(10, 77, 0, 1), 32, "", 0, 0});
  Route own = *before.routes.begin();
  own.destination = Ip(10, 77, 0, 0);
  state_.routes.insert(own);
  state_.addresses.erase(before.addresses[0]);  // gone by itself
  network_.interfaces[0].addresses.clear();
  network_.routes.pop_back();
  network_.neighbours.clear();
  const auto wanted = Settings();
  EXPECT_THAT(Texts(PlanRemovals(before, wanted, state_)),
              ElementsAre("remove neighbour 10.9.9.9 02:00:00:00:00:09 link 5",
                          "remove address 10.0.0.6/24 link 5"));
  EXPECT_THAT(Texts(PlanRoutes(before, wanted, state_)),
              ElementsAre("remove route 10.8.0.0/16 link 5"));
}

TEST_F(Entries, ReplacesARouteAtItsPlace) {
  network_.routes = {MakeRoute("", 0, Ip(10, 0, 0, 1))};
  const auto before = Settings();
  Install(before);
  network_.routes = {MakeRoute("", 0, Ip(10, 0, 0, 2))};
  const auto wanted = Settings();
  EXPECT_THAT(Texts(PlanRoutes(before, wanted, state_)),
              ElementsAre("replace route default via 10.0.0.2 link 5"));
  // Another of the same place is not ours to replace.
  Route other = *before.routes.begin();
  other.gateway = Ip(10, 0, 0, 3);
  state_.routes.insert(other);
  EXPECT_THAT(Texts(PlanRoutes(before, wanted, state_)),
              ElementsAre("remove route default via 10.0.0.1 link 5",
                          "add route default via 10.0.0.2 link 5"));
}

TEST_F(Entries, AFailedCallIsCleanedUpLater) {
  network_.routes = {MakeRoute(Ip(10, 8, 0, 0), 16)};
  const auto failed = Settings();
  network_.routes = {MakeRoute(Ip(10, 9, 0, 0), 16)};
  const auto first = Settings();
  const auto both = Union(failed, first);
  EXPECT_EQ(both.routes.size(), 2U);
  EXPECT_EQ(both.links.size(), 1U);
  Install(both);
  network_.routes.clear();
  EXPECT_THAT(Texts(PlanRoutes(both, Settings(), state_)),
              ElementsAre("remove route 10.8.0.0/16 link 5", "remove route 10.9.0.0/16 link 5"));
}

}  // namespace
}  // namespace bulkhead::agent
