// The pod's network in a real guest: NICs that QEMU brings, and interfaces that a container makes
// while the agent waits for them.
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <future>

#include "agent/guest_test.h"

namespace bulkhead::agent {
namespace {

using std::chrono::steady_clock;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

const std::string kMac1("\x52\x54\0\0\0\1", 6);  // as in guest_test.cc
const std::string kMac2("\x52\x54\0\0\0\2", 6);

std::string Ip(uint8_t a, uint8_t b, uint8_t c, uint8_t d) {
  return {static_cast<char>(a), static_cast<char>(b), static_cast<char>(c), static_cast<char>(d)};
}

// fd00::LAST, or fe80::LAST.
std::string Ip6(uint8_t last, uint8_t first = 0xfd, uint8_t second = 0) {
  std::string ip(16, '\0');
  ip[0] = static_cast<char>(first);
  ip[1] = static_cast<char>(second);
  ip[15] = static_cast<char>(last);
  return ip;
}

void AddAddress(wire::Network::Interface& interface, const std::string& ip, uint32_t prefix,
                const std::string& broadcast = "") {
  auto& address = *interface.add_addresses();
  address.set_ip(ip);
  address.set_prefix(prefix);
  address.set_broadcast(broadcast);
}

wire::Network::Interface& AddInterface(wire::Network& network, const std::string& mac,
                                       const std::string& name, uint32_t mtu = 1500) {
  auto& interface = *network.add_interfaces();
  interface.set_mac(mac);
  interface.set_name(name);
  interface.set_mtu(mtu);
  interface.set_up(true);
  return interface;
}

wire::Network::Route& AddRoute(wire::Network& network, const std::string& device,
                               const std::string& destination, uint32_t prefix,
                               const std::string& gateway = "", uint32_t family = AF_INET) {
  auto& route = *network.add_routes();
  route.set_family(family);
  route.set_destination(destination);
  route.set_prefix(prefix);
  route.set_gateway(gateway);
  route.set_device(device);
  route.set_scope(gateway.empty() && family == AF_INET ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE);
  route.set_table(RT_TABLE_MAIN);
  route.set_type(RTN_UNICAST);
  return route;
}

class AgentNetworkVm : public AgentVm {
 protected:
  // A container in the pod's own network namespace, which may change it.
  static oci::Spec PodSpec(const std::string& script) {
    oci::Spec spec = ShellSpec(script);
    std::erase_if(spec.linux_.namespaces,
                  [](const auto& entry) { return entry.type == "network"; });
    for (auto* set : {&spec.process->capabilities->bounding, &spec.process->capabilities->effective,
                      &spec.process->capabilities->permitted}) {
      set->insert(set->end(), {"CAP_NET_ADMIN", "CAP_NET_RAW"});
    }
    return spec;
  }
  std::string Look(const std::string& script) {
    const auto outcome = RunSpec("look", PodSpec(script));
    return outcome.out + outcome.err;
  }
  wire::SetNetworkResponse response_;
  std::string Set(const wire::Network& network) {
    grpc::ClientContext context;
    response_.Clear();
    return Text(guest_->stub().SetNetwork(&context, network, &response_));
  }
};

// eth0 in QEMU's user network, with what a pod of a CNI plugin has.
wire::Network PodNetworkOf() {
  wire::Network network;
  auto& eth0 = AddInterface(network, kMac1, "eth0", 1450);
  AddAddress(eth0, Ip(10, 0, 2, 15), 24, Ip(10, 0, 2, 255));
  AddAddress(eth0, Ip6(15), 64);
  AddAddress(eth0, Ip6(0x77, 0xfe, 0x80), 64);
  // The kernel makes this one by itself.
  AddRoute(network, "eth0", Ip(10, 0, 2, 0), 24).set_source(Ip(10, 0, 2, 15));
  AddRoute(network, "eth0", "", 0, Ip(10, 0, 2, 2));
  AddRoute(network, "eth0", "", 0, Ip6(1), AF_INET6).set_metric(1024);
  return network;
}

TEST_F(AgentNetworkVm, MakesThePodsNetwork) {
  wire::Network network = PodNetworkOf();
  // Backwards: the kernel names them eth0 and eth1.
  auto& net1 = AddInterface(network, kMac2, "net1");
  network.mutable_interfaces(0)->set_name("eth1");
  net1.set_name("eth0");
  net1.set_no_arp(true);
  ASSERT_EQ(Set({}), "ok");
  EXPECT_THAT(Look("ip addr show lo"), HasSubstr("inet 127.0.0.1/8"));
  for (auto& route : *network.mutable_routes()) {
    route.set_device("eth1");
  }
  const auto first = steady_clock::now();
  ASSERT_EQ(Set(network), "ok");
  std::cout << "first set of the network " << MillisecondsSince(first) << " ms\n";
  EXPECT_EQ(Look("cat /sys/class/net/eth0/address /sys/class/net/eth1/address "
                 "/sys/class/net/eth1/mtu"),
            "52:54:00:00:00:02\n52:54:00:00:00:01\n1450\n");

  // Swapped back while they are up.
  network.mutable_interfaces(0)->set_name("eth0");
  network.mutable_interfaces(1)->set_name("net1");
  for (auto& route : *network.mutable_routes()) {
    route.set_device("eth0");
  }
  const auto begin = steady_clock::now();
  ASSERT_EQ(Set(network), "ok");
  std::cout << "swapped the names " << MillisecondsSince(begin) << " ms\n";
  // After a second the kernel is done with what follows a link's coming up.
  const std::string text =
      Look("sleep 1; ip -o link; ip -o addr; ip route; ip -6 route; ping -c 1 10.0.2.2");
  EXPECT_THAT(text, HasSubstr("eth0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1450"));
  EXPECT_THAT(text, HasSubstr("net1: <BROADCAST,MULTICAST,NOARP,UP"));
  EXPECT_THAT(text, HasSubstr("inet 10.0.2.15/24 brd 10.0.2.255 scope global eth0"));
  EXPECT_THAT(text, HasSubstr("inet6 fd00::f/64 scope global"));
  EXPECT_THAT(text, HasSubstr("inet6 fe80::77/64 scope link"));
  // The kernel's own: by the MAC, and by what QEMU's router announces.
  EXPECT_THAT(text, Not(HasSubstr("fe80::5054")));
  EXPECT_THAT(text, Not(HasSubstr("fec0::")));
  EXPECT_THAT(text, Not(HasSubstr("via fe80::2")));
  EXPECT_THAT(text, Not(HasSubstr("tentative")));
  EXPECT_THAT(text, HasSubstr("default via 10.0.2.2 dev eth0 \n10.0.2.0/24 dev eth0 scope link"));
  EXPECT_THAT(text, HasSubstr("default via fd00::1 dev eth0  metric 1024"));
  EXPECT_THAT(text, HasSubstr("1 packets received"));
}

TEST_F(AgentNetworkVm, ChangesOnlyWhatDiffers) {
  wire::Network network = PodNetworkOf();
  ASSERT_EQ(Set(network), "ok");
  // What a container did stays, and a route would not survive eth0 going down.
  ASSERT_EQ(Look("ip route add 10.77.0.0/16 dev eth0 && ip addr add 10.78.0.1/32 dev eth0 && "
                 "ip link add own0 type dummy && ip addr add 10.79.0.1/24 dev own0 && "
                 "ip link set own0 up"),
            "");
  auto& eth0 = *network.mutable_interfaces(0);
  AddAddress(eth0, Ip(10, 90, 0, 1), 24);
  network.mutable_routes(1)->set_gateway(Ip(10, 0, 2, 3));
  ASSERT_EQ(Set(network), "ok");
  ASSERT_EQ(Set(network), "ok");
  const std::string more = Look("ip -o addr; ip route");
  EXPECT_THAT(more, HasSubstr("10.90.0.1/24"));
  EXPECT_THAT(more, HasSubstr("default via 10.0.2.3 dev eth0"));
  EXPECT_THAT(more, Not(HasSubstr("via 10.0.2.2 ")));
  for (const char* own : {"10.77.0.0/16 dev eth0", "10.78.0.1/32", "10.79.0.1/24"}) {
    EXPECT_THAT(more, HasSubstr(own));
  }

  network = PodNetworkOf();
  ASSERT_EQ(Set(network), "ok");
  const std::string less = Look("ip -o addr; ip route; ip link del own0");
  EXPECT_THAT(less, Not(HasSubstr("10.90.0.1")));
  EXPECT_THAT(less, HasSubstr("default via 10.0.2.2 dev eth0"));
  EXPECT_THAT(less, Not(HasSubstr("via 10.0.2.3 ")));
  EXPECT_THAT(less, HasSubstr("10.77.0.0/16 dev eth0"));

  ASSERT_EQ(Set({}), "ok");
  const std::string none = Look("ip -o link; ip -o addr; ip route; ip -6 route; ping -c 1 ::1");
  EXPECT_THAT(none, HasSubstr("eth0: <BROADCAST,MULTICAST> "));
  EXPECT_THAT(none, Not(HasSubstr("10.0.2.")));
  EXPECT_THAT(none, Not(HasSubstr("fd00::")));
  EXPECT_THAT(none, HasSubstr("inet 127.0.0.1/8 scope host lo"));
  EXPECT_THAT(none, HasSubstr("inet6 ::1/128 scope host"));
  EXPECT_THAT(none, HasSubstr("1 packets received"));
}

TEST_F(AgentNetworkVm, TakesRoutesNeighboursAndRules) {
  wire::Network network = PodNetworkOf();
  auto& lo = AddInterface(network, std::string(6, '\0'), "lo", 65536);
  AddAddress(lo, Ip(10, 96, 0, 10), 32);
  // As Calico has it: a gateway that is in no subnet.
  AddRoute(network, "eth0", Ip(169, 254, 1, 1), 32);
  auto& onlink = AddRoute(network, "eth0", Ip(10, 50, 0, 0), 16, Ip(169, 254, 9, 9));
  onlink.set_flags(RTNH_F_ONLINK);
  onlink.set_metric(77);
  onlink.set_mtu(1300);
  AddRoute(network, "eth0", Ip(10, 60, 0, 0), 16, Ip(169, 254, 1, 1)).set_table(1000);
  for (const uint32_t type : {RTN_BLACKHOLE, RTN_UNREACHABLE}) {
    auto& route = AddRoute(network, "", Ip(10, 61, 0, static_cast<uint8_t>(type)), 32);
    route.set_type(type);
    route.set_scope(RT_SCOPE_UNIVERSE);
  }
  auto& reject6 = AddRoute(network, "lo", Ip6(0x61), 128, "", AF_INET6);
  reject6.set_type(RTN_UNREACHABLE);
  reject6.set_metric(1024);
  AddRoute(network, "eth0", Ip(10, 62, 0, 0), 16, Ip6(1));  // IPv4 by way of an IPv6 router
  auto& neighbour = *network.add_neighbours();
  neighbour.set_ip(Ip(169, 254, 1, 1));
  neighbour.set_mac(std::string("\x02\0\0\0\0\x99", 6));
  neighbour.set_device("eth0");
  auto& rule = *network.add_rules();
  rule.set_family(AF_INET);
  rule.set_priority(100);
  rule.set_source(Ip(10, 0, 2, 15));
  rule.set_source_prefix(32);
  rule.set_mark(5);
  rule.set_invert(true);
  rule.set_table(1000);
  auto& main = *network.add_rules();
  main.set_family(AF_INET);
  main.set_priority(32766);
  main.set_table(RT_TABLE_MAIN);
  ASSERT_EQ(Set(network), "ok");
  ASSERT_EQ(Set(network), "ok");
  const std::string script =
      "ip route; ip -6 route; ip route show table 1000; ip neigh; ip rule; cat /proc/net/route; "
      "ip route get 10.60.0.9; ip addr show lo";
  const std::string text = Look(script);
  EXPECT_THAT(text, HasSubstr("inet 10.96.0.10/32 scope global lo"));
  EXPECT_THAT(text, HasSubstr("169.254.1.1 dev eth0 scope link"));
  EXPECT_THAT(text, HasSubstr("10.50.0.0/16 via 169.254.9.9 dev eth0"));
  EXPECT_THAT(text, HasSubstr("10.60.0.0/16 via 169.254.1.1 dev eth0"));
  EXPECT_THAT(text, HasSubstr("blackhole 10.61.0.6"));
  EXPECT_THAT(text, HasSubstr("unreachable 10.61.0.7"));
  EXPECT_THAT(text, HasSubstr("unreachable fd00::61"));
  EXPECT_THAT(text, HasSubstr("10.62.0.0/16"));
  EXPECT_THAT(text, HasSubstr("169.254.1.1 dev eth0 lladdr 02:00:00:00:00:99"));
  EXPECT_THAT(text, HasSubstr("PERMANENT"));
  EXPECT_THAT(text, HasSubstr("100:\tfrom 10.0.2.15 fwmark 0x5 lookup 1000"));
  // Inverted: so it is for this one, which has no mark.
  EXPECT_THAT(text, HasSubstr("10.60.0.9 via 169.254.1.1 dev eth0"));

  ASSERT_EQ(Set(PodNetworkOf()), "ok");
  const std::string less = Look(script);
  for (const char* gone :
       {"169.254", "10.61.", "10.62.", "fd00::61", "PERMANENT", "fwmark", "10.96."}) {
    EXPECT_THAT(less, Not(HasSubstr(gone)));
  }
  EXPECT_THAT(less, HasSubstr("32766:\tfrom all lookup main"));
}

TEST_F(AgentNetworkVm, WaitsForAnInterface) {
  wire::Network network;
  const std::string mac("\x02\0\0\0\0\x07", 6);
  AddAddress(AddInterface(network, mac, "late0", 1400), Ip(10, 91, 0, 1), 24);
  const auto begin = steady_clock::now();
  EXPECT_THAT(Set(network), HasSubstr("not-found: waited 5 s: interface late0: none has the MAC "
                                      "02:00:00:00:00:07"));
  EXPECT_GE(MillisecondsSince(begin), 5000);
  auto set = std::async(std::launch::async, [&] { return Set(network); });
  // Asked for first; found by its MAC among two, and while its name is another's.
  const std::string made = Look(
      "ip link add late0 type dummy && ip link add veth1 type veth && "
      "ip link set veth1 address 02:00:00:00:00:07 && echo made");
  EXPECT_THAT(made, HasSubstr("made"));
  EXPECT_EQ(set.get(), "ok");
  const std::string text = Look("ip -o link; ip -o addr; ip link del late0");
  EXPECT_THAT(text, HasSubstr("late0@"));
  EXPECT_THAT(text, HasSubstr("mtu 1400"));
  EXPECT_THAT(text, HasSubstr(": nic"));
  EXPECT_THAT(text, HasSubstr("inet 10.91.0.1/24 scope global late0"));
}

TEST_F(AgentNetworkVm, NamesWhatTheKernelRefuses) {
  wire::Network network = PodNetworkOf();
  AddRoute(network, "eth0", Ip(10, 64, 0, 0), 16, Ip(172, 16, 0, 1));
  EXPECT_THAT(Set(network), HasSubstr("add route 10.64.0.0/16 via 172.16.0.1 link "));
  EXPECT_THAT(Set(network), HasSubstr("Nexthop has invalid gateway"));
  network.mutable_interfaces(0)->set_mac("short");
  EXPECT_THAT(Set(network), HasSubstr("invalid-argument: interfaces[0]: mac: 5 bytes, not 6"));
  // None of it stands in the way of what is right.
  EXPECT_EQ(Set(PodNetworkOf()), "ok");
}

TEST_F(AgentNetworkVm, MakesVlans) {
  wire::Network network = PodNetworkOf();
  auto& outer = AddInterface(network, kMac1, "outer", 1450);
  outer.mutable_vlan()->set_link("eth0");
  outer.mutable_vlan()->set_id(7);
  outer.mutable_vlan()->set_protocol(0x88a8);
  auto& inner = AddInterface(network, std::string("\x02\0\0\0\0\x77", 6), "inner", 1400);
  inner.mutable_vlan()->set_link("outer");
  inner.mutable_vlan()->set_id(4094);
  inner.mutable_vlan()->set_protocol(0x8100);
  AddAddress(inner, Ip(10, 7, 0, 2), 24, Ip(10, 7, 0, 255));
  AddRoute(network, "inner", Ip(10, 8, 0, 0), 16, Ip(10, 7, 0, 1));
  ASSERT_EQ(Set(network), "ok");
  const std::string kShow = "cat /proc/net/vlan/config; ip addr show inner; ip route";
  std::string seen = Look(kShow);
  EXPECT_THAT(seen, ContainsRegex("outer *\\| 7 *\\| eth0"));
  EXPECT_THAT(seen, ContainsRegex("inner *\\| 4094 *\\| outer"));
  EXPECT_THAT(seen, ContainsRegex("inner@outer: <[A-Z,]*UP.* mtu 1400"));
  EXPECT_THAT(seen, HasSubstr("link/ether 02:00:00:00:00:77"));
  EXPECT_THAT(seen, HasSubstr("inet 10.7.0.2/24"));
  EXPECT_THAT(seen, HasSubstr("10.8.0.0/16 via 10.7.0.1 dev inner"));
  ASSERT_EQ(Set(network), "ok");  // nothing to do
  EXPECT_EQ(Look(kShow), seen);
  // A new name for what they lie on takes them down for a moment.
  network.mutable_interfaces(0)->set_name("uplink");
  for (auto& route : *network.mutable_routes()) {
    route.set_device(route.device() == "eth0" ? "uplink" : route.device());
  }
  network.mutable_interfaces(1)->mutable_vlan()->set_link("uplink");
  ASSERT_EQ(Set(network), "ok");
  seen = Look(kShow);
  EXPECT_THAT(seen, ContainsRegex("outer *\\| 7 *\\| uplink"));
  EXPECT_THAT(seen, HasSubstr("10.8.0.0/16 via 10.7.0.1 dev inner"));
  ASSERT_EQ(Set(PodNetworkOf()), "ok");
  seen = Look("cat /proc/net/vlan/config; ip route");
  EXPECT_THAT(seen, Not(HasSubstr("outer")));
  EXPECT_THAT(seen, HasSubstr("default via 10.0.2.2 dev eth0"));
}

// Two interfaces with one MAC address, as ipvlans have: each has a NIC with an address of its own.
TEST_F(AgentNetworkVm, GivesANicAnotherAddress) {
  wire::Network network = PodNetworkOf();
  auto& twin = AddInterface(network, kMac1, "eth1");
  twin.set_nic_mac(kMac2);
  ASSERT_EQ(Set(network), "ok");
  EXPECT_THAT(Look("ip link show eth1"), HasSubstr("link/ether 52:54:00:00:00:01"));
  ASSERT_EQ(Set(network), "ok");  // it is found again
  twin.set_mac(kMac2);
  ASSERT_EQ(Set(network), "ok");
  EXPECT_THAT(Look("ip link show eth1"), HasSubstr("link/ether 52:54:00:00:00:02"));
}

TEST_F(AgentNetworkVm, HeedsRoutersWhereItIsTold) {
  wire::Network network = PodNetworkOf();
  const char* kShow = "cat /proc/sys/net/ipv6/conf/eth0/accept_ra";
  ASSERT_EQ(Set(network), "ok");
  EXPECT_EQ(Look(kShow), "0\n");
  network.mutable_interfaces(0)->set_accept_ra(true);
  ASSERT_EQ(Set(network), "ok");
  EXPECT_EQ(Look(kShow), "2\n");
}

TEST_F(AgentNetworkVm, SetsWhatIsNewOfTheSysctls) {
  wire::Network network = PodNetworkOf();
  auto& sysctls = *network.mutable_sysctls();
  sysctls["ipv4/conf/eth0/rp_filter"] = "2";
  sysctls["core/somaxconn"] = "77";
  sysctls["ipv4/no_such_thing"] = "1";
  sysctls["ipv4/tcp_congestion_control"] = "nonsense";
  const char* kShow = "cd /proc/sys/net; cat ipv4/conf/eth0/rp_filter core/somaxconn";
  ASSERT_EQ(Set(network), "ok");
  EXPECT_THAT(response_.not_set(),
              UnorderedElementsAre("ipv4/no_such_thing", "ipv4/tcp_congestion_control"));
  EXPECT_EQ(Look(kShow), "2\n77\n");
  grpc::ClientContext context;
  wire::SetSysctlsRequest own;
  wire::Empty empty;
  (*own.mutable_sysctls())["net.core.somaxconn"] = "99";
  ASSERT_TRUE(guest_->stub().SetSysctls(&context, own, &empty).ok());
  ASSERT_EQ(Set(network), "ok");  // nothing new
  EXPECT_EQ(response_.not_set_size(), 0);
  EXPECT_EQ(Look(kShow), "2\n99\n");
  sysctls["core/somaxconn"] = "88";
  ASSERT_EQ(Set(network), "ok");
  EXPECT_EQ(Look(kShow), "2\n88\n");
  sysctls["../../kernel/hostname"] = "x";
  EXPECT_THAT(Set(network), HasSubstr("sysctls: \"../../kernel/hostname\" is no name of one"));
}

}  // namespace
}  // namespace bulkhead::agent
