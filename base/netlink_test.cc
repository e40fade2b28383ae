#include "base/netlink.h"

#include <gtest/gtest.h>
#include <linux/if_link.h>

namespace bulkhead {
namespace {

TEST(NetlinkRequest, IsReadAsItWasWritten) {
  ifinfomsg header{};
  header.ifi_index = 7;
  NetlinkRequest message(RTM_NEWLINK, NLM_F_CREATE, header);
  message.PutText(IFLA_IFNAME, "eth0");  // 5 bytes: padding follows
  const size_t outer = message.Begin(IFLA_LINKINFO);
  message.PutText(IFLA_INFO_KIND, "veth");
  message.End(outer);
  message.PutValue<uint32_t>(IFLA_MTU, 1450);
  const std::string bytes = message.Encode(3, NLM_F_ACK);
  const auto envelope = HeaderOf<nlmsghdr>(bytes);
  EXPECT_EQ(envelope.nlmsg_len, bytes.size());
  EXPECT_EQ(envelope.nlmsg_seq, 3U);
  EXPECT_EQ(envelope.nlmsg_flags, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_ACK);
  const std::string_view body = std::string_view(bytes).substr(NLMSG_HDRLEN);
  EXPECT_EQ(HeaderOf<ifinfomsg>(body).ifi_index, 7);
  const auto attributes = AttributesAfter<ifinfomsg>(body);
  EXPECT_EQ(attributes.Text(IFLA_IFNAME), "eth0");
  EXPECT_EQ(attributes.Nested(IFLA_LINKINFO).Text(IFLA_INFO_KIND), "veth");
  EXPECT_EQ(attributes.Value<uint32_t>(IFLA_MTU), 1450U);
  EXPECT_FALSE(attributes.Has(IFLA_ADDRESS));
}

TEST(NetlinkAttributes, LeavesOutWhatIsCutShort) {
  NetlinkRequest message(0, 0, ifinfomsg{});
  message.PutValue<uint32_t>(1, 11);
  message.PutValue<uint32_t>(2, 22);
  const std::string bytes = message.Encode(0, 0).substr(NLMSG_LENGTH(sizeof(ifinfomsg)));
  for (size_t size = 0; size < bytes.size(); ++size) {
    const NetlinkAttributes attributes(std::string_view(bytes).substr(0, size));
    EXPECT_EQ(attributes.Has(1), size >= 8) << size;
    EXPECT_FALSE(attributes.Has(2)) << size;
  }
  EXPECT_FALSE(NetlinkAttributes(std::string(16, '\0')).Has(0));  // of length 0
  EXPECT_EQ(NetlinkAttributes(bytes).Value<uint64_t>(1), 0U);     // too short for it
}

TEST(Netlink, WaitsForNewsNoLongerThanAsked) {
  auto socket = Netlink::Open(RTMGRP_LINK);
  ASSERT_TRUE(socket);
  EXPECT_TRUE(socket->AwaitNews(std::chrono::milliseconds(5)));
}

}  // namespace
}  // namespace bulkhead
