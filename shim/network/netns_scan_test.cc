#include "shim/network/netns_scan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_addr.h>

#include <algorithm>

#include "shim/network/test_netns.h"

namespace bulkhead::shim {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

namespace pb = agent::v1;

std::string Ip(const std::string& bytes) {
  char text[INET6_ADDRSTRLEN] = "";
  ::inet_ntop(bytes.size() == 4 ? AF_INET : AF_INET6, bytes.data(), text, sizeof(text));
  return bytes.empty() ? "-" : text;
}

// As ip(8) would put them, more or less.
std::vector<std::string> Addresses(const pb::Network::Interface& interface) {
  std::vector<std::string> lines;
  for (const auto& address : interface.addresses()) {
    lines.push_back(fmt::format("{}/{} brd {} scope {} flags {:#x}", Ip(address.ip()),
                                address.prefix(), Ip(address.broadcast()), address.scope(),
                                address.flags()));
  }
  return lines;
}

std::vector<std::string> Routes(const pb::Network& network, uint32_t family) {
  std::vector<std::string> lines;
  for (const auto& route : network.routes()) {
    if (route.family() == family) {
      lines.push_back(fmt::format(
          "{}/{} via {} src {} dev {} metric {} table {} type {} flags {} "
          "mtu {}",
          Ip(route.destination()), route.prefix(), Ip(route.gateway()), Ip(route.source()),
          route.device(), route.metric(), route.table(), route.type(), route.flags(), route.mtu()));
    }
  }
  return lines;
}

class NetnsScan : public NetnsTest {
 protected:
  void MakeReady() override {
    ASSERT_TRUE(netns_->Ip("link set lo down"));  // as it is born
    far_.emplace(*TestNetns::Create());
    netlink_.emplace(*InNetns(netns_->fd(), [] { return Netlink::Open(); }));
  }
  void Do(const std::string& command) {
    const Status done = netns_->Ip(command);
    ASSERT_TRUE(done) << done.error().message();
  }
  void Veth(const std::string& name, const std::string& mac) {
    Do(fmt::format("link add {} address {} type veth peer name {} netns {}", name, mac, name,
                   far_->path()));
  }
  NetnsState Scan() {
    auto state = ScanNetns(*netlink_);
    EXPECT_TRUE(state) << state.error().message();
    return state ? std::move(*state) : NetnsState();
  }

  std::optional<TestNetns> far_;
  std::optional<Netlink> netlink_;
};

TEST_F(NetnsScan, AnEmptyOne) {
  Do("link set lo up");
  const NetnsState state = Scan();
  EXPECT_THAT(state.interfaces, IsEmpty());
  EXPECT_THAT(state.left_out, IsEmpty());
  EXPECT_EQ(state.network.SerializeAsString(), "");
}

TEST_F(NetnsScan, InterfacesAndAddresses) {
  Veth("eth0", "02:00:00:00:00:01");
  Veth("net1", "02:00:00:00:00:02");
  Do("link set eth0 mtu 1400 addrgenmode none up");
  Do("addr add 10.1.2.3/24 brd + dev eth0");
  Do("addr add 192.0.2.7/32 scope link dev eth0 noprefixroute");
  Do("addr add fd00::3/64 dev eth0 nodad");
  Do("link set net1 arp off");
  const NetnsState state = Scan();
  ASSERT_EQ(state.interfaces.size(), 2U);
  EXPECT_EQ(state.interfaces[0].name, "eth0");
  EXPECT_EQ(state.interfaces[0].mtu, 1400U);
  EXPECT_EQ(state.interfaces[0].mac, (hypervisor::MacAddress{2, 0, 0, 0, 0, 1}));
  EXPECT_LT(state.interfaces[0].index, state.interfaces[1].index);
  ASSERT_EQ(state.network.interfaces_size(), 2);
  const auto& eth0 = state.network.interfaces(0);
  EXPECT_EQ(eth0.name(), "eth0");
  EXPECT_EQ(eth0.mac(), std::string("\x02\0\0\0\0\x01", 6));
  EXPECT_EQ(eth0.mtu(), 1400U);
  EXPECT_TRUE(eth0.up());
  EXPECT_FALSE(eth0.no_arp());
  EXPECT_THAT(Addresses(eth0),
              UnorderedElementsAre(
                  "10.1.2.3/24 brd 10.1.2.255 scope 0 flags 0x0",
                  fmt::format("192.0.2.7/32 brd - scope 253 flags {:#x}", IFA_F_NOPREFIXROUTE),
                  fmt::format("fd00::3/64 brd - scope 0 flags {:#x}", IFA_F_NODAD)));
  const auto& net1 = state.network.interfaces(1);
  EXPECT_EQ(net1.name(), "net1");
  EXPECT_FALSE(net1.up());
  EXPECT_TRUE(net1.no_arp());
}

TEST_F(NetnsScan, Routes) {
  Veth("eth0", "02:00:00:00:00:01");
  Do("link set eth0 addrgenmode none up");
  ASSERT_TRUE(far_->Ip("link set eth0 up"));
  Do("addr add 10.1.2.3/24 dev eth0");
  Do("route add default via 10.1.2.1 metric 5 mtu 1300");
  Do("route add 169.254.1.1 dev eth0 scope link src 10.1.2.3");
  Do("route add 10.9.0.0/16 via 172.16.0.1 dev eth0 onlink table 77");
  Do("route add blackhole 10.8.0.0/16");
  Do("route add 10.7.0.0/16 nexthop via 10.1.2.5 nexthop via 10.1.2.6");
  Do("route add 10.6.0.0/16 via inet6 fe80::1 dev eth0");
  Do("addr add fd00::3/64 dev eth0 nodad");
  Do("route add default via fd00::1");
  Do("route add unreachable fd09::/16");
  const NetnsState state = Scan();
  EXPECT_THAT(
      Routes(state.network, AF_INET),
      UnorderedElementsAre(
          "10.1.2.0/24 via - src 10.1.2.3 dev eth0 metric 0 table 254 type 1 flags 0 mtu 0",
          "169.254.1.1/32 via - src 10.1.2.3 dev eth0 metric 0 table 254 type 1 flags 0 "
          "mtu 0",
          "10.8.0.0/16 via - src - dev  metric 0 table 254 type 6 flags 0 mtu 0",
          "-/0 via 10.1.2.1 src - dev eth0 metric 5 table 254 type 1 flags 0 mtu 1300",
          "10.9.0.0/16 via 172.16.0.1 src - dev eth0 metric 0 table 77 type 1 flags 4 mtu 0",
          "10.7.0.0/16 via 10.1.2.5 src - dev eth0 metric 0 table 254 type 1 flags 0 mtu 0",
          "10.7.0.0/16 via 10.1.2.6 src - dev eth0 metric 0 table 254 type 1 flags 0 mtu 0",
          "10.6.0.0/16 via fe80::1 src - dev eth0 metric 0 table 254 type 1 flags 0 mtu 0"));
  EXPECT_THAT(Routes(state.network, AF_INET6),
              UnorderedElementsAre(
                  "fd00::/64 via - src - dev eth0 metric 256 table 254 type 1 flags 0 mtu 0",
                  "-/0 via fd00::1 src - dev eth0 metric 1024 table 254 type 1 flags 0 mtu 0",
                  "fd09::/16 via - src - dev lo metric 1024 table 254 type 7 flags 0 mtu 0"));
  const auto& routes = state.network.routes();
  EXPECT_TRUE(std::is_partitioned(routes.begin(), routes.end(),
                                  [](const auto& route) { return route.gateway().empty(); }));
}

// As the CNI's plugins ptp and sbr leave it.
TEST_F(NetnsScan, AddressesWithoutTheirRoutes) {
  Veth("eth0", "02:00:00:00:00:01");
  Do("link set eth0 addrgenmode none up");
  for (const char* ip :
       {"10.1.2.3/24", "10.1.2.4/24", "10.2.0.1/24", "10.3.0.1/24", "10.4.0.1/32"}) {
    Do(fmt::format("addr add {} dev eth0", ip));
  }
  Do("addr add fd00::3/64 dev eth0 nodad");
  Do("addr add fd01::3/64 dev eth0 nodad");
  Do("route del 10.2.0.0/24 dev eth0");
  Do("route add 10.2.0.0/24 dev eth0 table 100");
  Do("route replace 10.3.0.0/24 via 10.1.2.1 dev eth0");
  Do("-6 route del fd01::/64 dev eth0");
  EXPECT_THAT(
      Addresses(Scan().network.interfaces(0)),
      UnorderedElementsAre(
          "10.1.2.3/24 brd - scope 0 flags 0x0", "10.1.2.4/24 brd - scope 0 flags 0x0",
          fmt::format("10.2.0.1/24 brd - scope 0 flags {:#x}", IFA_F_NOPREFIXROUTE),
          fmt::format("10.3.0.1/24 brd - scope 0 flags {:#x}", IFA_F_NOPREFIXROUTE),
          "10.4.0.1/32 brd - scope 0 flags 0x0",
          fmt::format("fd00::3/64 brd - scope 0 flags {:#x}", IFA_F_NODAD),
          fmt::format("fd01::3/64 brd - scope 0 flags {:#x}", IFA_F_NODAD | IFA_F_NOPREFIXROUTE)));
  Do("link set eth0 down");
  EXPECT_THAT(Addresses(Scan().network.interfaces(0)),
              Contains("10.2.0.1/24 brd - scope 0 flags 0x0"));
}

TEST_F(NetnsScan, NeighboursAndRules) {
  Veth("eth0", "02:00:00:00:00:01");
  Do("link set eth0 up");
  Do("neigh add 169.254.1.1 lladdr 02:00:00:00:00:99 dev eth0 nud permanent");
  Do("neigh add 169.254.1.2 lladdr 02:00:00:00:00:98 dev eth0 nud stale");
  Do("neigh add fd00::9 lladdr 02:00:00:00:00:97 dev eth0 nud permanent");
  Do("rule add not from 10.1.0.5/16 to 10.2.0.0/24 iif lo oif eth0 fwmark 0x10/0xff priority 100 "
     "table 77");
  Do("-6 rule add from fd00::/8 priority 101 table 5000");
  Do("rule add from 10.3.0.1 priority 102 prohibit");
  Do("rule add ipproto 6 dport 80 priority 103 table 77");
  Do("rule add priority 104 table main suppress_prefixlength 0");
  const NetnsState state = Scan();
  std::vector<std::string> neighbours;
  for (const auto& neighbour : state.network.neighbours()) {
    neighbours.push_back(fmt::format("{} {:02x} {}", Ip(neighbour.ip()), neighbour.mac()[5] & 0xff,
                                     neighbour.device()));
  }
  EXPECT_THAT(neighbours, UnorderedElementsAre("169.254.1.1 99 eth0", "fd00::9 97 eth0"));
  ASSERT_EQ(state.network.rules_size(), 2);
  const auto& first = state.network.rules(0);
  EXPECT_EQ(first.family(), AF_INET);
  EXPECT_EQ(first.priority(), 100U);
  EXPECT_EQ(Ip(first.source()), "10.1.0.0");
  EXPECT_EQ(first.source_prefix(), 16U);
  EXPECT_EQ(Ip(first.destination()), "10.2.0.0");
  EXPECT_EQ(first.destination_prefix(), 24U);
  EXPECT_EQ(first.mark(), 0x10U);
  EXPECT_EQ(first.mask(), 0xffU);
  EXPECT_EQ(first.table(), 77U);
  EXPECT_EQ(first.input(), "lo");
  EXPECT_EQ(first.output(), "eth0");
  EXPECT_TRUE(first.invert());
  const auto& second = state.network.rules(1);
  EXPECT_EQ(second.family(), AF_INET6);
  EXPECT_EQ(second.table(), 5000U);
  EXPECT_FALSE(second.invert());
  EXPECT_THAT(state.left_out,
              ElementsAre(HasSubstr("routing rule 102"), HasSubstr("routing rule 103"),
                          HasSubstr("routing rule 104")));
}

TEST_F(NetnsScan, WhatIsLeftOut) {
  Veth("eth0", "02:00:00:00:00:01");
  Do("tuntap add bhtap7 mode tap");  // as one of ours
  Do("tuntap add tun0 mode tun");    // no Ethernet
  Do("link set tun0 up");
  const NetnsState state = Scan();
  ASSERT_EQ(state.interfaces.size(), 1U);
  EXPECT_EQ(state.interfaces[0].name, "eth0");
  EXPECT_THAT(state.left_out, ElementsAre("interface tun0 (tun): it carries no Ethernet frames"));
}

TEST_F(NetnsScan, OneOnAnother) {
  Veth("eth0", "02:00:00:00:00:01");
  if (!netns_->Ip("link add mac0 link eth0 type macvlan mode bridge")) {
    GTEST_SKIP() << "no macvlan";
  }
  const NetnsState state = Scan();
  EXPECT_EQ(state.interfaces.size(), 1U);
  EXPECT_THAT(state.left_out,
              ElementsAre("interface mac0 (macvlan): it lies on another interface of the pod"));
  // But one whose parent is the host's is the pod's own.
  ASSERT_TRUE(far_->Ip("link add mac1 link eth0 netns " + netns_->path() + " type macvlan"));
  EXPECT_EQ(Scan().interfaces.size(), 2U);
}

TEST_F(NetnsScan, AddressesThatAreNotUnique) {
  Veth("eth0", "02:00:00:00:00:01");
  Veth("eth1", "02:00:00:00:00:01");
  const NetnsState state = Scan();
  ASSERT_EQ(state.interfaces.size(), 2U);
  EXPECT_EQ(state.interfaces[0].nic_mac, state.interfaces[0].mac);
  EXPECT_EQ(state.interfaces[1].mac, state.interfaces[0].mac);
  const hypervisor::MacAddress& made = state.interfaces[1].nic_mac;
  EXPECT_NE(made, state.interfaces[0].nic_mac);
  EXPECT_EQ(made[0], 0x02);
  EXPECT_EQ(state.network.interfaces(0).nic_mac(), "");
  EXPECT_EQ(state.network.interfaces(1).nic_mac(), std::string(made.begin(), made.end()));
  EXPECT_EQ(state.network.interfaces(1).mac(), state.network.interfaces(0).mac());
}

// A guest of ours has them where this kernel has not
// (test/integration/test_kernel_of_the_guest.py).
TEST_F(NetnsScan, Vlans) {
  Veth("eth0", "02:00:00:00:00:01");
  if (!netns_->Ip("link add link eth0 name outer type vlan proto 802.1ad id 7")) {
    GTEST_SKIP() << "this kernel has no VLANs";
  }
  Do("link add link outer name inner address 02:00:00:00:00:09 mtu 1400 type vlan id 4094");
  Do("addr add 10.7.0.2/24 dev inner");
  for (const char* link : {"eth0", "outer", "inner"}) {
    Do(fmt::format("link set {} up", link));
  }
  Do("route add 10.8.0.0/16 via 10.7.0.1 dev inner");
  const NetnsState state = Scan();
  EXPECT_THAT(state.left_out, IsEmpty());
  ASSERT_EQ(state.interfaces.size(), 1U);  // one NIC
  ASSERT_EQ(state.network.interfaces_size(), 3);
  const auto& outer = state.network.interfaces(1);
  EXPECT_EQ(outer.name(), "outer");
  EXPECT_EQ(outer.vlan().link(), "eth0");
  EXPECT_EQ(outer.vlan().id(), 7U);
  EXPECT_EQ(outer.vlan().protocol(), 0x88a8U);
  const auto& inner = state.network.interfaces(2);
  EXPECT_EQ(inner.vlan().link(), "outer");
  EXPECT_EQ(inner.vlan().id(), 4094U);
  EXPECT_EQ(inner.vlan().protocol(), 0x8100U);
  EXPECT_EQ(inner.mac(), std::string("\x02\0\0\0\0\x09", 6));
  EXPECT_EQ(inner.mtu(), 1400U);
  EXPECT_THAT(Addresses(inner), Contains(HasSubstr("10.7.0.2/24")));
  EXPECT_THAT(Routes(state.network, AF_INET), Contains(HasSubstr("via 10.7.0.1")));
}

TEST_F(NetnsScan, Ipvlans) {
  ASSERT_TRUE(far_->Ip("link add phys type veth peer name other"));
  if (!far_->Ip("link add ipv0 link phys netns " + netns_->path() + " type ipvlan mode l3")) {
    GTEST_SKIP() << "this kernel has no ipvlan";
  }
  ASSERT_TRUE(far_->Ip("link add ipv1 link phys netns " + netns_->path() + " type ipvlan mode l3"));
  ASSERT_TRUE(far_->Ip("link set phys up"));
  Do("link set ipv0 up");
  const NetnsState state = Scan();
  EXPECT_THAT(state.left_out, IsEmpty());
  ASSERT_EQ(state.interfaces.size(), 2U);
  EXPECT_EQ(state.interfaces[0].kind, "ipvlan");
  EXPECT_EQ(state.interfaces[0].mac, state.interfaces[1].mac);
  EXPECT_NE(state.interfaces[0].nic_mac, state.interfaces[1].nic_mac);
  EXPECT_TRUE(state.network.interfaces(0).no_arp());
}

TEST_F(NetnsScan, PortsAreTheirMasters) {
  Veth("eth0", "02:00:00:00:00:01");
  Do("link add br0 type bridge");
  Do("link set eth0 master br0");
  Do("link set br0 up");
  const NetnsState state = Scan();
  ASSERT_EQ(state.interfaces.size(), 1U);
  EXPECT_EQ(state.interfaces[0].name, "br0");
  EXPECT_EQ(state.interfaces[0].kind, "bridge");
}

TEST_F(NetnsScan, RoutersAreHeededAsTheHostWould) {
  Veth("eth0", "02:00:00:00:00:01");
  const auto accepts = [&](const std::string& name, const char* value) {
    const std::string path = "/proc/sys/net/ipv6/conf/eth0/" + name;
    EXPECT_TRUE(InNetns(netns_->fd(), [&] { return sys::WriteExisting(path, value); }));
    return Scan().network.interfaces(0).accept_ra();
  };
  EXPECT_TRUE(accepts("accept_ra", "1"));
  EXPECT_FALSE(accepts("forwarding", "1"));
  EXPECT_TRUE(accepts("accept_ra", "2"));
  EXPECT_FALSE(accepts("disable_ipv6", "1"));
  EXPECT_TRUE(accepts("disable_ipv6", "0"));
  EXPECT_FALSE(accepts("accept_ra", "0"));
}

TEST_F(NetnsScan, WhatRoutersAnnouncedIsNotTold) {
  Veth("eth0", "02:00:00:00:00:01");
  Do("link set eth0 up");
  ASSERT_TRUE(far_->Ip("link set eth0 up"));
  Do("addr add fd00::5/64 dev eth0 valid_lft 1000 preferred_lft 1000 nodad");
  Do("addr add fd00::6/64 dev eth0 nodad");
  Do("route add default via fd00::1 dev eth0 proto ra expires 100");
  Do("route add fd01::/64 via fd00::1 dev eth0");
  NetnsState state = Scan();
  EXPECT_THAT(Addresses(state.network.interfaces(0)), Not(Contains(HasSubstr("fd00::5"))));
  EXPECT_THAT(Addresses(state.network.interfaces(0)), Contains(HasSubstr("fd00::6")));
  EXPECT_THAT(Routes(state.network, AF_INET6), Not(Contains(HasSubstr("-/0 via"))));
  EXPECT_THAT(Routes(state.network, AF_INET6), Contains(HasSubstr("fd01::/64")));
  // Where the guest does not listen, it is told.
  ASSERT_TRUE(InNetns(netns_->fd(), [&] {
    return sys::WriteExisting("/proc/sys/net/ipv6/conf/eth0/accept_ra", "0");
  }));
  state = Scan();
  EXPECT_THAT(Addresses(state.network.interfaces(0)), Contains(HasSubstr("fd00::5")));
  EXPECT_THAT(Routes(state.network, AF_INET6), Contains(HasSubstr("-/0 via fd00::1")));
}

TEST_F(NetnsScan, BareIsWithoutAnybodysInterface) {
  EXPECT_TRUE(Scan().is_bare);
  Do("tuntap add bhtap7 mode tap");
  EXPECT_TRUE(Scan().is_bare);
  Do("tuntap add tun0 mode tun");
  Do("link set tun0 up");
  EXPECT_FALSE(Scan().is_bare);
}

TEST_F(NetnsScan, IsBounded) {
  for (size_t i = 0; i <= kMaxInterfaces; ++i) {
    Veth(fmt::format("eth{}", i), fmt::format("02:00:00:00:00:{:02x}", i));
  }
  const auto many = ScanNetns(*netlink_);
  ASSERT_FALSE(many);
  EXPECT_EQ(many.error().code(), ErrorCode::kResourceExhausted);
  EXPECT_EQ(many.error().message(), "interfaces: 33: at most 32 are carried into a VM");
  NetlinkRequest request(RTM_GETLINK, NLM_F_DUMP, ifinfomsg{});
  EXPECT_EQ(netlink_->Dump(request, 5).error().message(), "netlink: more than 5 entries");
  // The rest of what it had to say is not taken for an answer to the next question.
  EXPECT_EQ(netlink_->Dump(request, 100)->size(), kMaxInterfaces + 2);  // with lo
}

TEST_F(NetnsScan, ErrorsHaveTheKernelsWords) {
  NetlinkRequest request(RTM_GETLINK, 0, ifinfomsg{});
  request.PutText(IFLA_IFNAME, "none");
  const auto answer = netlink_->Ask(request);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().errnum(), ENODEV);
  ifinfomsg header{};
  header.ifi_index = 1;
  NetlinkRequest mtu(RTM_NEWLINK, 0, header);
  mtu.PutValue(IFLA_MTU, uint8_t{1});
  EXPECT_THAT(netlink_->Execute(mtu).error().message(), Not(HasSubstr("the kernel refuses")));
}

}  // namespace
}  // namespace bulkhead::shim
