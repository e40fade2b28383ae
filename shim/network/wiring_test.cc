#include "shim/network/wiring.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bulkhead::shim {
namespace {

using ::testing::ElementsAre;

TEST(DescribeWiring, NicsAndVlans) {
  agent::v1::Network told;
  auto& eth0 = *told.add_interfaces();
  eth0.set_name("eth0");
  eth0.set_mac(std::string("\x02\0\0\0\0\x01", 6));
  eth0.set_mtu(1450);
  eth0.set_up(true);
  for (const auto& [ip, prefix] : {std::pair{std::string("\x0a\0\0\x02", 4), 24U},
                                   {std::string("\xfd", 1) + std::string(14, '\0') + '\7', 64U}}) {
    eth0.add_addresses()->set_ip(ip);
    eth0.mutable_addresses()->rbegin()->set_prefix(prefix);
  }
  auto& vlan = *told.add_interfaces();
  vlan.set_name("eth0.7");
  vlan.mutable_vlan()->set_link("eth0");
  vlan.mutable_vlan()->set_id(7);
  CarriedInterface carried;
  carried.interface = {5, "eth0", {2, 0, 0, 0, 0, 1}, 1450, "veth", {2, 0, 0, 0, 0, 9}};
  carried.nic = "net0";
  carried.model = "tc";
  carried.tap = "bhtap5";
  carried.queues = 2;
  carried.vhost = true;
  const auto network = DescribeWiring(told, {carried});
  ASSERT_EQ(network.interfaces_size(), 2);
  const auto& first = network.interfaces(0);
  EXPECT_EQ(first.kind(), "veth");
  EXPECT_EQ(first.mac(), "02:00:00:00:00:01");
  EXPECT_EQ(first.mtu(), 1450U);
  EXPECT_TRUE(first.up());
  EXPECT_THAT(first.addresses(), ElementsAre("10.0.0.2/24", "fd00::7/64"));
  EXPECT_EQ(first.nic().id(), "net0");
  EXPECT_EQ(first.nic().mac(), "02:00:00:00:00:09");
  EXPECT_EQ(first.nic().tap(), "bhtap5");
  EXPECT_EQ(first.nic().model(), "tc");
  EXPECT_EQ(first.nic().queues(), 2U);
  EXPECT_TRUE(first.nic().vhost());
  EXPECT_FALSE(first.nic().plugged());
  const auto& second = network.interfaces(1);
  EXPECT_EQ(second.kind(), "vlan");
  EXPECT_EQ(second.vlan_link(), "eth0");
  EXPECT_EQ(second.vlan_id(), 7U);
  EXPECT_FALSE(second.has_nic());
}

}  // namespace
}  // namespace bulkhead::shim
