#include "shim/network/interface_counters.h"

#include <gtest/gtest.h>
#include <linux/if_link.h>

namespace bulkhead::shim {
namespace {

TEST(InterfaceCounters, OfKernelsThatTellLess) {
  rtnl_link_stats64 stats{};
  stats.rx_bytes = 7;
  stats.tx_dropped = 9;
  for (const size_t size : {sizeof(stats), size_t{192}, size_t{184}}) {  // 5.19, 4.6, before
    NetlinkRequest request(RTM_NEWLINK, 0, ifinfomsg{});
    request.PutText(IFLA_IFNAME, "eth0");
    request.Put(IFLA_STATS64, BytesOf(stats).substr(0, size));
    const std::string message = request.Encode(1, 0);
    const NetlinkAnswer answer{RTM_NEWLINK, message.substr(NLMSG_HDRLEN)};
    const InterfaceCounters counters = ParseCounters(answer.Attributes<ifinfomsg>());
    EXPECT_EQ(counters.name, "eth0");
    EXPECT_EQ(counters.received.bytes, 7U) << size;
    EXPECT_EQ(counters.sent.dropped, 9U);
  }
}

}  // namespace
}  // namespace bulkhead::shim
