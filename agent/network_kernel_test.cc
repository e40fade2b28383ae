#include "agent/network_kernel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <net/if.h>

namespace bulkhead::agent {
namespace {

// Of the namespace that the test runs in; nothing is changed.
TEST(NetworkKernel, ReadsWhatIsThere) {
  auto socket = Netlink::Open();
  ASSERT_TRUE(socket) << socket.error().message();
  const auto state = ReadNetwork(*socket);
  ASSERT_TRUE(state) << state.error().message();
  bool found = false;
  for (const Link& link : state->links) {
    EXPECT_EQ(link.index, static_cast<int>(::if_nametoindex(link.name.c_str()))) << link.name;
    found = found || (link.loopback && link.name == "lo" && link.mac.size() == 6);
  }
  EXPECT_TRUE(found);
}

TEST(NetworkKernel, SaysWhatTheKernelRefuses) {
  auto socket = Netlink::Open();
  ASSERT_TRUE(socket);
  LinkChange change;
  change.link = 0x7ffffff0;
  change.up = false;
  const auto status = ApplyChange(*socket, change);
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().message(), ::testing::HasSubstr("set link 2147483632 down: "));
}

}  // namespace
}  // namespace bulkhead::agent
