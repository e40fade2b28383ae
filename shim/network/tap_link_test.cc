#include "shim/network/tap_link.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>
#include <sys/wait.h>

#include "shim/network/test_netns.h"

namespace bulkhead::shim {
namespace {

using std::chrono::milliseconds;
using ::testing::EndsWith;
using ::testing::HasSubstr;

constexpr milliseconds kSoon{2000};
constexpr milliseconds kQuiet{300};
constexpr size_t kVirtioHeader = 10;  // virtio_net_hdr: its file is not for C++
const std::string kOurMac("\x02\0\0\0\0\x01", 6);
const std::string kFarMac("\x02\0\0\0\0\x02", 6);

std::string Frame(const std::string& to, const std::string& from, const std::string& text) {
  std::string frame = to + from + "\x88\xb5" + text;  // ETH_P_802_EX1
  frame.resize(std::max<size_t>(frame.size(), ETH_ZLEN), '.');
  return frame;
}

// "Who has 10.1.2.3?", asked by 10.1.2.4.
std::string ArpRequest() {
  std::string frame = std::string(6, '\xff') + kFarMac +
                      std::string("\x08\x06\0\1\x08\0\6\4\0\1", 10) + kFarMac +
                      std::string("\x0a\1\2\4\0\0\0\0\0\0\x0a\1\2\3", 14);
  frame.resize(ETH_ZLEN, '\0');
  return frame;
}

class TapLinkTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto pair = TestNetnsPair::Create();
    if (!pair) {
      GTEST_SKIP() << pair.error().message();
    }
    netns_.emplace(std::move(pair->near));
    far_.emplace(std::move(pair->far));
    netlink_ = std::make_shared<Netlink>(*InNetns(netns_->fd(), [] { return Netlink::Open(); }));
    MakeInterface();
  }
  void MakeInterface() {
    ASSERT_TRUE(
        netns_->Ip("link add eth0 address 02:00:00:00:00:01 mtu 1400 type veth peer name "
                   "far address 02:00:00:00:00:02 mtu 1400 netns " +
                   far_->path()));
    ASSERT_TRUE(far_->Ip("link set far addrgenmode none up"));
    ASSERT_TRUE(netns_->Ip("link set eth0 addrgenmode none up"));
    ASSERT_TRUE(netns_->Ip("addr add 10.1.2.3/24 dev eth0"));
  }
  Result<TapLink> Link() {
    return TapLink::Create(netns_->fd(), netlink_, ScanNetns(*netlink_)->interfaces.at(0));
  }
  size_t Count(uint16_t type, const std::string& kind) {
    tcmsg header{};
    header.tcm_ifindex = static_cast<int>(ScanNetns(*netlink_)->interfaces.at(0).index);
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
  bool AnswersArp() {
    const UniqueFd arp = *far_->Frames("far", ETH_P_ARP);
    EXPECT_TRUE(sys::WriteAll(arp.get(), ArpRequest()));
    return NextFrame(arp.get(), kQuiet).starts_with(kFarMac + kOurMac);
  }

  std::optional<TestNetns> netns_;
  std::optional<TestNetns> far_;
  std::shared_ptr<Netlink> netlink_;
};

TEST_F(TapLinkTest, CarriesFramesBothWays) {
  const UniqueFd far = *far_->Frames("far", ETH_P_802_EX1);
  auto link = Link();
  ASSERT_TRUE(link) << link.error().message();
  // Nothing but what is sent: no greeting of the tap's own stack.
  ASSERT_TRUE(sys::WriteAll(far.get(), Frame(kOurMac, kFarMac, "to the guest")));
  std::string frame = NextFrame(link->fd(), kSoon);
  ASSERT_GT(frame.size(), kVirtioHeader);
  EXPECT_EQ(frame.substr(kVirtioHeader), Frame(kOurMac, kFarMac, "to the guest"));
  // To others than eth0 as well: the guest may be promiscuous, or want a group.
  ASSERT_TRUE(sys::WriteAll(far.get(), Frame(std::string("\x33\x33\0\0\0\1", 6), kFarMac, "all")));
  EXPECT_THAT(NextFrame(link->fd(), kSoon), HasSubstr("all"));
  ASSERT_TRUE(sys::WriteAll(
      link->fd(), std::string(kVirtioHeader, '\0') + Frame(kFarMac, kOurMac, "from the guest")));
  EXPECT_EQ(NextFrame(far.get(), kSoon), Frame(kFarMac, kOurMac, "from the guest"));
  // As large as the MTU has it.
  const std::string large = Frame(kOurMac, kFarMac, std::string(1400, 'x'));
  ASSERT_TRUE(sys::WriteAll(far.get(), large));
  EXPECT_THAT(NextFrame(link->fd(), kSoon), EndsWith(large));
  EXPECT_EQ(NextFrame(link->fd(), kQuiet), "");
}

TEST_F(TapLinkTest, PutsBackWhatWas) {
  ASSERT_TRUE(AnswersArp());
  {
    const auto link = Link();
    ASSERT_TRUE(link) << link.error().message();
    EXPECT_EQ(Qdiscs(), 1U);
    EXPECT_GE(Filters(), 1U);
    EXPECT_FALSE(AnswersArp());
    EXPECT_THAT(NextFrame(link->fd(), kSoon), EndsWith(ArpRequest()));
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
    EXPECT_THAT(NextFrame(link->fd(), kSoon), EndsWith(ArpRequest()));
  }
  EXPECT_EQ(Qdiscs("clsact"), 1U);
  EXPECT_EQ(Filters(), 0U);
  EXPECT_TRUE(AnswersArp());
}

TEST_F(TapLinkTest, OneAtATime) {
  const auto first = Link();
  ASSERT_TRUE(first);
  const auto second = Link();
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), ErrorCode::kAlreadyExists);
  EXPECT_EQ(second.error().message(), "interface eth0: tap: a VM has it already");
  EXPECT_FALSE(AnswersArp());
  EXPECT_THAT(NextFrame(first->fd(), kSoon), EndsWith(ArpRequest()));
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
    EXPECT_THAT(NextFrame(link->fd(), kSoon), EndsWith(ArpRequest()));
  }
  EXPECT_EQ(Filters(), 0U);
  EXPECT_TRUE(AnswersArp());
}

TEST_F(TapLinkTest, StaleFiltersAreRemoved) {
  constexpr std::chrono::milliseconds kAtOnce(0);
  const std::string path = fmt::format("/proc/self/fd/{}", netns_->fd());
  for (const bool another : {false, true}) {  // somebody has a filter of his own there
    const pid_t child = ::fork();
    if (child == 0) {
      const auto link = Link();
      // It is not stale yet: frames pass in both directions.
      const UniqueFd far = *far_->Frames("far", ETH_P_802_EX1);
      const std::string frame = Frame(kFarMac, kOurMac, "out");
      const bool passes = link && RemoveStaleFilters(path, kAtOnce) && !AnswersArp() &&
                          sys::WriteAll(link->fd(), std::string(kVirtioHeader, '\0') + frame) &&
                          NextFrame(far.get(), kSoon) == frame;
      ::_exit(passes ? 0 : 1);
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
    const Status done = RemoveStaleFilters(path, kAtOnce);
    ASSERT_TRUE(done) << done.error().message();
    EXPECT_EQ(Filters(), 0U);
    EXPECT_EQ(Qdiscs(), another ? 1U : 0U);
    EXPECT_TRUE(AnswersArp());
  }
  EXPECT_TRUE(RemoveStaleFilters("/nowhere", kAtOnce));
  EXPECT_TRUE(RemoveStaleFilters("", kAtOnce));
  EXPECT_FALSE(RemoveStaleFilters("/dev/null", kAtOnce));
}

TEST_F(TapLinkTest, AnInterfaceThatGoes) {
  auto link = std::make_optional(std::move(*Link()));
  ASSERT_TRUE(netns_->Ip("link del eth0"));
  link.reset();
  EXPECT_FALSE(netns_->Ip("link show | grep -q bhtap"));
  const auto gone = TapLink::Create(netns_->fd(), netlink_, {99, "eth9", {2}, 1500});
  ASSERT_FALSE(gone);
  EXPECT_THAT(gone.error().message(), HasSubstr("interface eth9: "));
  EXPECT_FALSE(netns_->Ip("link show | grep -q bhtap"));
}

}  // namespace
}  // namespace bulkhead::shim
