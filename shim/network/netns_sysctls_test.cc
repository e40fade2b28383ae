#include "shim/network/netns_sysctls.h"

#include <gmock/gmock.h>

#include "shim/network/test_netns.h"

namespace bulkhead::shim {
namespace {

using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

class NetnsSysctls : public NetnsTest {
 protected:
  void Set(const std::string& name, const std::string& value) {
    EXPECT_TRUE(
        InNetns(netns_->fd(), [&] { return sys::WriteExisting("/proc/sys/net/" + name, value); }));
  }
  Sysctls Changed() { return ChangedSysctls(*ReadSysctls(netns_->fd()), *ReadFreshSysctls()); }
};

TEST_F(NetnsSysctls, TellsWhatSomebodyChanged) {
  ASSERT_TRUE(netns_->Ip("link add eth0 mtu 1400 type veth peer name far"));
  ASSERT_TRUE(netns_->Ip("link set eth0 up"));
  ASSERT_TRUE(netns_->Ip("addr add 10.0.0.1/24 dev eth0"));
  EXPECT_THAT(Changed(), IsEmpty());  // the kernel's own doing is no change
  Set("ipv4/conf/eth0/rp_filter", "2");
  Set("core/somaxconn", "77");
  Set("ipv6/conf/far/disable_ipv6", "1");
  Set("ipv6/conf/eth0/accept_ra", "0");
  Set("ipv4/ip_local_port_range", "2000 3000");
  EXPECT_THAT(Changed(), UnorderedElementsAre(Pair("ipv4/conf/eth0/rp_filter", "2"),
                                              Pair("core/somaxconn", "77"),
                                              Pair("ipv4/ip_local_port_range", "2000\t3000")));
}

TEST(ChangedSysctls, InterfacesAreComparedWithNewOnes) {
  const Sysctls fresh{{"ipv4/conf/default/arp_notify", "0"}, {"ipv4/ip_forward", "0"}};
  EXPECT_THAT(
      ChangedSysctls({{"ipv4/conf/eth0/arp_notify", "0"},
                      {"ipv4/conf/net1/arp_notify", "1"},
                      {"ipv4/ip_forward", "1"},
                      {"ipv4/unknown", "1"},
                      {"lonely", "1"}},
                     fresh),
      UnorderedElementsAre(Pair("ipv4/conf/net1/arp_notify", "1"), Pair("ipv4/ip_forward", "1")));
}

}  // namespace
}  // namespace bulkhead::shim
