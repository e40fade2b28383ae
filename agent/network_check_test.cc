#include "agent/network_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

namespace bulkhead::agent {
namespace {

const std::string kMac("\x02\0\0\0\0\1", 6);
const std::string kIp("\x0a\0\0\1", 4);
const std::string kNet("\x0a\0\0\0", 4);

Network Right() {
  Network network;
  network.interfaces = {
      {kMac, "eth0", 1500, true, false, {{0, kIp, 24, "", 0, IFA_F_NODAD}}, kMac, {}}};
  Route route;
  route.family = AF_INET;
  route.destination = kNet;
  route.prefix = 24;
  route.device = "eth0";
  network.routes = {route};
  network.neighbours = {{kIp, kMac, "eth0", 0}};
  Rule rule;
  rule.family = AF_INET;
  rule.priority = 5;
  rule.mark = 1;
  rule.table = 100;
  network.rules = {rule};
  return network;
}

// The error for a right description with one thing wrong.
template <typename F>
std::string Refusal(F spoil) {
  Network network = Right();
  spoil(network);
  const auto checked = CheckNetwork(std::move(network));
  if (checked) {
    return "taken";
  }
  EXPECT_EQ(checked.error().code(), ErrorCode::kInvalidArgument);
  return checked.error().message();
}

TEST(CheckNetwork, TakesWhatIsRightInTheKernelsSpelling) {
  const auto checked = CheckNetwork(Right());
  ASSERT_TRUE(checked) << checked.error().message();
  EXPECT_EQ(checked->interfaces[0].addresses[0].flags, 0U);
  EXPECT_EQ(checked->routes[0].table, uint32_t{RT_TABLE_MAIN});
  EXPECT_EQ(checked->routes[0].type, uint32_t{RTN_UNICAST});
  EXPECT_EQ(checked->rules[0].mask, UINT32_MAX);
  EXPECT_TRUE(CheckNetwork({}));
}

TEST(CheckNetwork, Sysctls) {
  const auto refusal = [](const std::string& name, const std::string& value = "1") {
    return Refusal([&](Network& n) { n.sysctls[name] = value; });
  };
  EXPECT_EQ(refusal("ipv4/conf/eth0.7/rp_filter"), "taken");
  for (const char* name : {"/etc/passwd", "..", "ipv4/../../kernel/x", "ipv4/.."}) {
    EXPECT_EQ(refusal(name), fmt::format("sysctls: \"{}\" is no name of one", name));
  }
  EXPECT_EQ(refusal(""), "sysctls: \"\" is no name of one");
  EXPECT_EQ(refusal("ipv4/a b"), "sysctls: \"\" is no name of one");
  EXPECT_EQ(refusal("core/x", std::string(4097, '1')), "sysctls: core/x: too long");
}

TEST(CheckNetwork, Vlans) {
  const auto refusal = [](const std::string& link, uint32_t id, uint32_t protocol) {
    return Refusal([&](Network& n) {
      n.interfaces.push_back(n.interfaces[0]);
      n.interfaces[1].name = "v";
      n.interfaces[1].vlan = Vlan{link, id, protocol};
    });
  };
  EXPECT_EQ(refusal("eth0", 1, 0x8100), "taken");
  EXPECT_EQ(refusal("eth0", 4094, 0x88a8), "taken");
  const char* kNoParent = "interfaces[1]: vlan: link: \"{}\" is not among the interfaces before it";
  for (const char* link : {"lo", "v", "eth1", ""}) {
    EXPECT_EQ(refusal(link, 1, 0x8100), fmt::format(fmt::runtime(kNoParent), link));
  }
  EXPECT_EQ(refusal("eth0", 0, 0x8100), "interfaces[1]: vlan: id: 0 is not within 1 and 4094");
  EXPECT_EQ(refusal("eth0", 4095, 0x8100),
            "interfaces[1]: vlan: id: 4095 is not within 1 and 4094");
  EXPECT_EQ(refusal("eth0", 1, 0x800), "interfaces[1]: vlan: protocol: 0x800");
}

TEST(CheckNetwork, SpellsRoutesAsTheKernelDoes) {
  Network network = Right();
  Route& route = network.routes[0];
  route.family = AF_INET6;
  route.destination = std::string(16, '\0');
  route.prefix = 0;
  route.type = RTN_UNREACHABLE;
  route.device = "lo";
  route.scope = RT_SCOPE_LINK;
  const auto checked = CheckNetwork(network);
  ASSERT_TRUE(checked) << checked.error().message();
  EXPECT_EQ(checked->routes[0].destination, "");
  EXPECT_EQ(checked->routes[0].device, "");
  EXPECT_EQ(checked->routes[0].metric, 1024U);
  EXPECT_EQ(checked->routes[0].scope, 0U);
}

TEST(CheckNetwork, LeavesOutTheKernelsRules) {
  Network network = Right();
  for (const auto& [priority, table] : {std::pair{0, 255}, {32766, 254}, {32767, 253}, {9, 254}}) {
    Rule rule;
    rule.family = AF_INET;
    rule.priority = static_cast<uint32_t>(priority);
    rule.table = static_cast<uint32_t>(table);
    network.rules.push_back(rule);
  }
  EXPECT_EQ(CheckNetwork(network)->rules.size(), 2U);
}

TEST(CheckNetwork, NamesAWrongInterface) {
  const auto named = [](const std::string& name) {
    return Refusal([&](Network& n) { n.interfaces[0].name = name; });
  };
  EXPECT_EQ(named(""), "interfaces[0]: name: \"\" is no name of an interface");
  EXPECT_EQ(named("0123456789abcdef"),
            "interfaces[0]: name: \"0123456789abcdef\" is no name of an interface");
  EXPECT_EQ(named("a/b"), "interfaces[0]: name: no name of an interface: byte 47 is not allowed");
  EXPECT_EQ(named("a%d"), "interfaces[0]: name: no name of an interface: byte 37 is not allowed");
  EXPECT_EQ(named("a\xff"),
            "interfaces[0]: name: no name of an interface: byte 255 is not allowed");
  EXPECT_EQ(named(".."), "interfaces[0]: name: \"..\" is no name of an interface");
  const auto mac = [](const std::string& bytes) {
    return Refusal([&](Network& n) { n.interfaces[0].mac = bytes; });
  };
  EXPECT_EQ(mac("short"), "interfaces[0]: mac: 5 bytes, not 6");
  EXPECT_EQ(mac(std::string(6, '\0')), "interfaces[0]: mac: all zeros");
  EXPECT_EQ(mac(std::string(6, '\1')),
            "interfaces[0]: mac: 01:01:01:01:01:01 is a multicast address");
  EXPECT_EQ(Refusal([](Network& n) { n.interfaces[0].mtu = 70000; }),
            "interfaces[0]: mtu: 70000, more than 65536");
  EXPECT_EQ(Refusal([](Network& n) { n.interfaces.push_back(n.interfaces[0]); }),
            "interfaces[1]: name: eth0 is that of interfaces[0]");
  EXPECT_EQ(Refusal([](Network& n) {
              n.interfaces.push_back(n.interfaces[0]);
              n.interfaces[1].name = "eth1";
            }),
            "interfaces[1]: nic_mac: 02:00:00:00:00:01 is that of interfaces[0]");
}

TEST(CheckNetwork, NamesAWrongAddress) {
  const auto refusal = [](auto spoil) {
    return Refusal([&](Network& n) { spoil(n.interfaces[0].addresses[0]); });
  };
  EXPECT_EQ(refusal([](Address& a) { a.ip = "12345"; }),
            "interfaces[0]: addresses[0]: ip: 5 bytes, not 4 or 16");
  EXPECT_EQ(refusal([](Address& a) { a.prefix = 33; }),
            "interfaces[0]: addresses[0]: prefix: 33 of 32 bits");
  EXPECT_EQ(refusal([](Address& a) { a.broadcast = "1"; }),
            "interfaces[0]: addresses[0]: broadcast: 1 bytes, not 4");
  EXPECT_EQ(refusal([](Address& a) { a.scope = 256; }), "interfaces[0]: addresses[0]: scope: 256");
}

TEST(CheckNetwork, NamesAWrongRoute) {
  const auto refusal = [](auto spoil) { return Refusal([&](Network& n) { spoil(n.routes[0]); }); };
  EXPECT_EQ(refusal([](Route& r) { r.family = 3; }), "routes[0]: family: 3 is not IP");
  EXPECT_EQ(refusal([](Route& r) { r.prefix = 33; }),
            "routes[0]: destination: prefix: 33 of 32 bits");
  EXPECT_EQ(refusal([](Route& r) { r.prefix = 4; }),
            "routes[0]: destination: 10.0.0.0/4 has bits beyond the prefix");
  EXPECT_EQ(refusal([](Route& r) { r.destination.clear(); }),
            "routes[0]: destination: prefix: 24 of 0 bits");
  EXPECT_EQ(refusal([](Route& r) { r.gateway = "12345"; }), "routes[0]: gateway: 5 bytes, not 4");
  EXPECT_EQ(refusal([](Route& r) { r.gateway = std::string(16, 'a'); }), "taken");
  EXPECT_EQ(refusal([](Route& r) { r.source = std::string(16, 'a'); }),
            "routes[0]: source: 16 bytes, not 4");
  EXPECT_EQ(refusal([](Route& r) { r.type = 10; }), "routes[0]: type: 10");
  EXPECT_EQ(refusal([](Route& r) { r.device = "eth9"; }),
            "routes[0]: device: \"eth9\" is not among the interfaces");
  EXPECT_EQ(refusal([](Route& r) { r.device = "lo"; }), "taken");
}

TEST(CheckNetwork, NamesAWrongNeighbourOrRule) {
  EXPECT_EQ(Refusal([](Network& n) { n.neighbours[0].mac = "x"; }),
            "neighbours[0]: mac: 1 bytes, not 6");
  EXPECT_EQ(Refusal([](Network& n) { n.neighbours[0].ip = ""; }),
            "neighbours[0]: ip: 0 bytes, not 4 or 16");
  EXPECT_EQ(Refusal([](Network& n) { n.neighbours[0].device = ""; }),
            "neighbours[0]: device: \"\" is not among the interfaces");
  EXPECT_EQ(Refusal([](Network& n) { n.rules[0].table = 0; }), "rules[0]: table: missing");
  EXPECT_EQ(Refusal([](Network& n) { n.rules[0].input = "a b"; }),
            "rules[0]: input: no name of an interface: byte 32 is not allowed");
  EXPECT_EQ(Refusal([](Network& n) { n.rules[0].source_prefix = 1; }),
            "rules[0]: source: prefix: 1 of 0 bits");
}

TEST(CheckNetwork, RefusesAbsurdCounts) {
  EXPECT_EQ(Refusal([](Network& n) { n.interfaces.resize(65); }),
            "interfaces: 65 entries, more than 64");
  EXPECT_EQ(Refusal([](Network& n) { n.interfaces[0].addresses.resize(1025); }),
            "interfaces[0]: addresses: 1025 entries, more than 1024");
  EXPECT_EQ(Refusal([](Network& n) { n.routes.resize(4097); }),
            "routes: 4097 entries, more than 4096");
  EXPECT_EQ(Refusal([](Network& n) { n.neighbours.resize(4097); }),
            "neighbours: 4097 entries, more than 4096");
  EXPECT_EQ(Refusal([](Network& n) { n.rules.resize(1025); }),
            "rules: 1025 entries, more than 1024");
}

}  // namespace
}  // namespace bulkhead::agent
