#include "shim/network/tap_link.h"

#include <sys/wait.h>

#include "shim/network/frame_link_fixture.h"

namespace bulkhead::shim {
namespace {

using ::testing::EndsWith;

class TapLinkTest : public FrameLinkFixture {
 protected:
  Result<TapLink> Link() { return TapLink::Create(netns_->fd(), netlink_, Interface(), 1); }
  size_t Count(uint16_t type, const std::string& kind) {
    tcmsg header{};
    header.tcm_ifindex = static_cast<int>(Interface().index);
    header.tcm_parent = type == RTM_GETTFILTER ? 0xfffffff2 : 0;
    size_t count = 0;
    const auto answers = netlink_->Dump(NetlinkRequest(type, 0, header), 100);
    for (const NetlinkAnswer& answer : *answers) {
      count += answer.As<tcmsg>().tcm_ifindex == header.tcm_ifindex &&
               answer.Attributes<tcmsg>().Text(TCA_KIND) == kind;
    }
    return count;
  }
  size_t Qdiscs(const std::string& kind = "ingress") { return Count(RTM_GETQDISC, kind); }
  size_t Filters() { return Count(RTM_GETTFILTER, "u32"); }
};

TEST_F(TapLinkTest, PutsBackWhatWas) {
  ASSERT_TRUE(AnswersArp());
  {
    const auto link = Link();
    ASSERT_TRUE(link) << link.error().message();
    EXPECT_EQ(Qdiscs(), 1U);
    EXPECT_GE(Filters(), 1U);
    EXPECT_FALSE(AnswersArp());
    EXPECT_THAT(NextFrame(Queue(*link), kSoon), EndsWith(ArpRequest()));
    const auto state = ScanNetns(*netlink_);  // the tap is not seen
    ASSERT_EQ(state->interfaces.size(), 1U);
    EXPECT_EQ(state->network.interfaces(0).addresses_size(), 1);
    const std::string tap = fmt::format("bhtap{}", state->interfaces[0].index);
    EXPECT_TRUE(netns_->Ip("link show " + tap + " | grep -q 'UP.* mtu 1400 '"));
    EXPECT_FALSE(netns_->Ip("addr show " + tap + " | grep -q inet"));
  }
  EXPECT_EQ(Qdiscs(), 0U);
  EXPECT_EQ(Filters(), 0U);
  EXPECT_TRUE(AnswersArp());
  EXPECT_FALSE(netns_->Ip("link show | grep -q bhtap"));
}

TEST_F(TapLinkTest, LeavesTheQdiscOfAnother) {
  ASSERT_TRUE(InNetns(netns_->fd(), []() -> Status {
    return std::system("tc qdisc add dev eth0 clsact") == 0 ? Status()
                                                            : MakeError(ErrorCode::kInternal, "tc");
  }));
  for (int i = 0; i < 2; ++i) {
    const auto link = Link();
    ASSERT_TRUE(link) << link.error().message();
    EXPECT_FALSE(AnswersArp());
    EXPECT_THAT(NextFrame(Queue(*link), kSoon), EndsWith(ArpRequest()));
  }
  EXPECT_EQ(Qdiscs("clsact"), 1U);
  EXPECT_EQ(Filters(), 0U);
  EXPECT_TRUE(AnswersArp());
}

// A process that is killed leaves its filter, whose tap is gone.
TEST_F(TapLinkTest, ReplacesWhatACrashLeft) {
  const pid_t child = ::fork();
  if (child == 0) {
    const auto link = Link();
    ::_exit(link ? 0 : 1);  // no destructor runs
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  ASSERT_GE(Filters(), 1U);
  EXPECT_FALSE(AnswersArp());
  {
    const auto link = Link();
    ASSERT_TRUE(link) << link.error().message();
    EXPECT_FALSE(AnswersArp());
    EXPECT_THAT(NextFrame(Queue(*link), kSoon), EndsWith(ArpRequest()));
  }
  EXPECT_EQ(Filters(), 0U);
  EXPECT_TRUE(AnswersArp());
}

TEST_F(TapLinkTest, StaleFiltersAreRemoved) {
  const std::string path = fmt::format("/proc/self/fd/{}", netns_->fd());
  for (const bool another : {false, true}) {  // somebody has a filter of his own there
    const pid_t child = ::fork();
    if (child == 0) {
      const auto link = Link();
      ::_exit(link && RemoveStaleFilters(path, std::chrono::milliseconds(0)) && Carries(*link)
                  ? 0
                  : 1);  // it is not stale yet
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_EQ(status, 0);
    if (another) {
      ASSERT_TRUE(InNetns(netns_->fd(), []() -> Status {
        return std::system("tc filter add dev eth0 ingress pref 7 bpf da bytecode '1,6 0 0 0'") == 0
                   ? Status()
                   : MakeError(ErrorCode::kInternal, "tc");
      }));
    }
    const Status done = RemoveStaleFilters(path, std::chrono::milliseconds(0));
    ASSERT_TRUE(done) << done.error().message();
    EXPECT_EQ(Filters(), 0U);
    EXPECT_EQ(Qdiscs(), another ? 1U : 0U);
    EXPECT_TRUE(AnswersArp());
  }
  EXPECT_TRUE(RemoveStaleFilters("/nowhere", std::chrono::milliseconds(0)));
  EXPECT_TRUE(RemoveStaleFilters("", std::chrono::milliseconds(0)));
  EXPECT_FALSE(RemoveStaleFilters("/dev/null", std::chrono::milliseconds(0)));
}

}  // namespace
}  // namespace bulkhead::shim
