// What every kind of link does.
#include "shim/network/frame_link.h"

#include <sys/wait.h>

#include "shim/network/frame_link_fixture.h"
#include "shim/network/interface_counters.h"
#include "shim/network/macvtap_link.h"
#include "shim/network/tap_link.h"

namespace bulkhead::shim {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

template <typename LinkKind>
class FrameLinkTest : public FrameLinkFixture {
 protected:
  void SetUp() override {
    FrameLinkFixture::SetUp();
    if (IsSkipped()) {
      return;
    }
    if (const auto link = Link(); !link && link.error().errnum() == EOPNOTSUPP) {
      GTEST_SKIP() << link.error().message();
    }
  }
  Result<LinkKind> Link(size_t queues = 1) {
    return LinkKind::Create(netns_->fd(), netlink_, Interface(), queues);
  }
};

using LinkKinds = ::testing::Types<TapLink, MacvtapLink>;
TYPED_TEST_SUITE(FrameLinkTest, LinkKinds);

TYPED_TEST(FrameLinkTest, CarriesFramesBothWays) {
  const UniqueFd far = *this->far_->Frames("far", ETH_P_802_EX1);
  auto link = this->Link();
  ASSERT_TRUE(link) << link.error().message();
  // Nothing but what is sent: no greeting of the tap's own stack.
  ASSERT_TRUE(sys::WriteAll(far.get(), Frame(kOurMac, kFarMac, "to the guest")));
  std::string frame = NextFrame(this->Queue(*link), kSoon);
  ASSERT_GT(frame.size(), kVirtioHeader);
  EXPECT_EQ(frame.substr(kVirtioHeader), Frame(kOurMac, kFarMac, "to the guest"));
  // To others than eth0 as well: the guest may be promiscuous, or want a group.
  ASSERT_TRUE(sys::WriteAll(far.get(), Frame(std::string("\x33\x33\0\0\0\1", 6), kFarMac, "all")));
  EXPECT_THAT(NextFrame(this->Queue(*link), kSoon), HasSubstr("all"));
  ASSERT_TRUE(sys::WriteAll(this->Queue(*link), std::string(kVirtioHeader, '\0') +
                                                    Frame(kFarMac, kOurMac, "from the guest")));
  EXPECT_EQ(NextFrame(far.get(), kSoon), Frame(kFarMac, kOurMac, "from the guest"));
  // As large as the MTU has it.
  const std::string large = Frame(kOurMac, kFarMac, std::string(1400, 'x'));
  ASSERT_TRUE(sys::WriteAll(far.get(), large));
  EXPECT_THAT(NextFrame(this->Queue(*link), kSoon), EndsWith(large));
  EXPECT_EQ(NextFrame(this->Queue(*link), kQuiet), "");
}

// A VLAN of the pod is made in the guest, on top of this interface.
TYPED_TEST(FrameLinkTest, CarriesTags) {
  const UniqueFd far = *this->far_->Frames("far", ETH_P_ALL);
  const auto link = this->Link();
  ASSERT_TRUE(link) << link.error().message();
  const auto tagged = [](const std::string& to, const std::string& from, const std::string& text) {
    return to + from + std::string("\x81\0\0\7", 4) + Frame("", "", text);
  };
  const std::string in = tagged(kOurMac, kFarMac, "to the guest");
  ASSERT_TRUE(sys::WriteAll(far.get(), in));
  EXPECT_THAT(NextFrame(this->Queue(*link), kSoon), EndsWith(in));
  ASSERT_TRUE(sys::WriteAll(this->Queue(*link), std::string(kVirtioHeader, '\0') +
                                                    tagged(kFarMac, kOurMac, "from the guest")));
  EXPECT_EQ(NextTag(far.get()), 7);
}

TYPED_TEST(FrameLinkTest, SeveralQueues) {
  const UniqueFd far = *this->far_->Frames("far", ETH_P_802_EX1);
  const auto link = this->Link(3);
  ASSERT_TRUE(link) << link.error().message();
  ASSERT_EQ(link->queues().size(), 3U);
  for (size_t i = 0; i < 3; ++i) {
    const std::string frame = Frame(kFarMac, kOurMac, fmt::format("from queue {}", i));
    ASSERT_TRUE(sys::WriteAll(this->Queue(*link, i), std::string(kVirtioHeader, '\0') + frame));
    EXPECT_EQ(NextFrame(far.get(), kSoon), frame);
  }
  // One of them gets it: which, is the kernel's to say.
  ASSERT_TRUE(sys::WriteAll(far.get(), Frame(kOurMac, kFarMac, "to the guest")));
  std::string seen;
  for (size_t i = 0; i < 3; ++i) {
    seen += NextFrame(this->Queue(*link, i), kQuiet);
  }
  EXPECT_THAT(seen, HasSubstr("to the guest"));
}

TYPED_TEST(FrameLinkTest, IsCounted) {
  const auto link = this->Link();
  const uint32_t index = link->interface().index;
  const InterfaceCounters before = *ReadCounters(*this->netlink_, index);
  EXPECT_EQ(before.name, "eth0");
  const UniqueFd far = *this->far_->Frames("far", ETH_P_802_EX1);
  ASSERT_TRUE(sys::WriteAll(far.get(), Frame(kOurMac, kFarMac, std::string(1000, 'x'))));
  ASSERT_TRUE(sys::WriteAll(
      this->Queue(*link),
      std::string(kVirtioHeader, '\0') + Frame(kFarMac, kOurMac, std::string(500, 'x'))));
  EXPECT_NE(NextFrame(far.get(), kSoon), "");
  const InterfaceCounters after = *ReadCounters(*this->netlink_, index);
  EXPECT_GE(after.received.bytes - before.received.bytes, 1000U);
  EXPECT_GE(after.received.packets - before.received.packets, 1U);
  EXPECT_GE(after.sent.bytes - before.sent.bytes, 500U);
  EXPECT_GE(after.sent.packets - before.sent.packets, 1U);
  EXPECT_EQ(ReadCounters(*this->netlink_, 99).error().errnum(), ENODEV);
}

TYPED_TEST(FrameLinkTest, OneAtATime) {
  for (const size_t queues : {1, 2}) {
    const auto first = this->Link(queues);
    ASSERT_TRUE(first) << first.error().message();
    const auto second = this->Link(queues);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code(), ErrorCode::kAlreadyExists);
    EXPECT_THAT(second.error().message(), HasSubstr("interface eth0: "));
    EXPECT_THAT(second.error().message(), EndsWith("tap: a VM has it already"));
  }
  const auto first = this->Link();
  EXPECT_FALSE(this->AnswersArp());
  EXPECT_THAT(NextFrame(this->Queue(*first), kSoon), EndsWith(ArpRequest()));
}

TYPED_TEST(FrameLinkTest, AnInterfaceThatGoes) {
  auto link = std::make_optional(std::move(*this->Link()));
  ASSERT_TRUE(this->netns_->Ip("link del eth0"));
  link.reset();
  EXPECT_FALSE(this->netns_->Ip("link show | grep -q bhtap"));
  const auto gone =
      TypeParam::Create(this->netns_->fd(), this->netlink_, {99, "eth9", {2}, 1500, "", {2}}, 1);
  ASSERT_FALSE(gone);
  EXPECT_THAT(gone.error().message(), HasSubstr("interface eth9: "));
  EXPECT_FALSE(this->netns_->Ip("link show | grep -q bhtap"));
}

TYPED_TEST(FrameLinkTest, IsAsBeforeAtTheEnd) {
  ASSERT_TRUE(this->AnswersArp());
  for (int i = 0; i < 2; ++i) {
    {
      const auto link = this->Link();
      ASSERT_TRUE(link) << link.error().message();
      EXPECT_FALSE(this->AnswersArp());
      EXPECT_THAT(NextFrame(this->Queue(*link), kSoon), EndsWith(ArpRequest()));
      const auto state = ScanNetns(*this->netlink_);  // our device is not seen
      ASSERT_EQ(state->interfaces.size(), 1U);
      EXPECT_EQ(state->network.interfaces(0).addresses_size(), 1);
      EXPECT_TRUE(this->netns_->Ip("link show " + link->name() + " | grep -q 'UP.* mtu 1400 '"));
      EXPECT_FALSE(this->netns_->Ip("addr show " + link->name() + " | grep -q inet"));
    }
    EXPECT_TRUE(this->AnswersArp());
    EXPECT_FALSE(this->netns_->Ip("link show | grep -q bhtap"));
  }
}

// A process that is killed leaves what no descriptor holds.
TYPED_TEST(FrameLinkTest, WhatACrashLeft) {
  const std::string path = fmt::format("/proc/self/fd/{}", this->netns_->fd());
  for (const bool removed : {false, true}) {
    const pid_t child = ::fork();
    if (child == 0) {
      const auto link = this->Link();
      ::_exit(link && RemoveStaleFilters(path, std::chrono::milliseconds(0)) && this->Carries(*link)
                  ? 0
                  : 1);  // not stale yet
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_EQ(status, 0);
    if (removed) {
      const Status done = RemoveStaleFilters(path, std::chrono::milliseconds(0));
      ASSERT_TRUE(done) << done.error().message();
    } else {
      const auto link = this->Link();
      ASSERT_TRUE(link) << link.error().message();
      EXPECT_FALSE(this->AnswersArp());
      EXPECT_THAT(NextFrame(this->Queue(*link), kSoon), EndsWith(ArpRequest()));
    }
    EXPECT_TRUE(this->AnswersArp());
    EXPECT_FALSE(this->netns_->Ip("link show | grep -q bhtap"));
  }
}

}  // namespace
}  // namespace bulkhead::shim
