#include "shim/network/tap_link.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>
#include <sys/wait.h>

#include <array>
#include <cstring>

#include "shim/network/interface_counters.h"
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

// The VLAN of the next frame, which the kernel tells beside it; 0: none.
int NextTag(int fd) {
  const int on = 1;
  EXPECT_EQ(::setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &on, sizeof(on)), 0);
  std::array<char, 2048> frame{};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(tpacket_auxdata))> control{};
  iovec part{frame.data(), frame.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  if (!sys::PollOne(fd, POLLIN, kSoon).value_or(false) || ::recvmsg(fd, &message, 0) < 0 ||
      CMSG_FIRSTHDR(&message) == nullptr) {
    return 0;
  }
  tpacket_auxdata told{};
  std::memcpy(&told, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(told));
  return (told.tp_status & TP_STATUS_VLAN_VALID) != 0 ? told.tp_vlan_tci : 0;
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
    for (const char* what : {"addrgenmode none", "up"}) {  // older kernels do the second first
      ASSERT_TRUE(far_->Ip(std::string("link set far ") + what));
      ASSERT_TRUE(netns_->Ip(std::string("link set eth0 ") + what));
    }
    ASSERT_TRUE(netns_->Ip("addr add 10.1.2.3/24 dev eth0"));
  }
  Result<TapLink> Link(size_t queues = 1) {
    return TapLink::Create(netns_->fd(), netlink_, ScanNetns(*netlink_)->interfaces.at(0), queues);
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
  static int Queue(const TapLink& link, size_t number = 0) {
    return link.queues().at(number).get();
  }
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
  std::string frame = NextFrame(Queue(*link), kSoon);
  ASSERT_GT(frame.size(), kVirtioHeader);
  EXPECT_EQ(frame.substr(kVirtioHeader), Frame(kOurMac, kFarMac, "to the guest"));
  // To others than eth0 as well: the guest may be promiscuous, or want a group.
  ASSERT_TRUE(sys::WriteAll(far.get(), Frame(std::string("\x33\x33\0\0\0\1", 6), kFarMac, "all")));
  EXPECT_THAT(NextFrame(Queue(*link), kSoon), HasSubstr("all"));
  ASSERT_TRUE(sys::WriteAll(
      Queue(*link), std::string(kVirtioHeader, '\0') + Frame(kFarMac, kOurMac, "from the guest")));
  EXPECT_EQ(NextFrame(far.get(), kSoon), Frame(kFarMac, kOurMac, "from the guest"));
  // As large as the MTU has it.
  const std::string large = Frame(kOurMac, kFarMac, std::string(1400, 'x'));
  ASSERT_TRUE(sys::WriteAll(far.get(), large));
  EXPECT_THAT(NextFrame(Queue(*link), kSoon), EndsWith(large));
  EXPECT_EQ(NextFrame(Queue(*link), kQuiet), "");
}

// A VLAN of the pod is made in the guest, on top of this interface.
TEST_F(TapLinkTest, CarriesTags) {
  const UniqueFd far = *far_->Frames("far", ETH_P_ALL);
  const auto link = Link();
  ASSERT_TRUE(link) << link.error().message();
  const auto tagged = [](const std::string& to, const std::string& from, const std::string& text) {
    return to + from + std::string("\x81\0\0\7", 4) + Frame("", "", text);
  };
  const std::string in = tagged(kOurMac, kFarMac, "to the guest");
  ASSERT_TRUE(sys::WriteAll(far.get(), in));
  EXPECT_THAT(NextFrame(Queue(*link), kSoon), EndsWith(in));
  ASSERT_TRUE(sys::WriteAll(
      Queue(*link), std::string(kVirtioHeader, '\0') + tagged(kFarMac, kOurMac, "from the guest")));
  EXPECT_EQ(NextTag(far.get()), 7);
}

TEST_F(TapLinkTest, SeveralQueues) {
  const UniqueFd far = *far_->Frames("far", ETH_P_802_EX1);
  const auto link = Link(3);
  ASSERT_TRUE(link) << link.error().message();
  ASSERT_EQ(link->queues().size(), 3U);
  for (size_t i = 0; i < 3; ++i) {
    const std::string frame = Frame(kFarMac, kOurMac, fmt::format("from queue {}", i));
    ASSERT_TRUE(sys::WriteAll(Queue(*link, i), std::string(kVirtioHeader, '\0') + frame));
    EXPECT_EQ(NextFrame(far.get(), kSoon), frame);
  }
  // One of them gets it: which, is the kernel's to say.
  ASSERT_TRUE(sys::WriteAll(far.get(), Frame(kOurMac, kFarMac, "to the guest")));
  std::string seen;
  for (size_t i = 0; i < 3; ++i) {
    seen += NextFrame(Queue(*link, i), kQuiet);
  }
  EXPECT_THAT(seen, HasSubstr("to the guest"));
}

TEST_F(TapLinkTest, IsCounted) {
  const auto link = Link();
  const uint32_t index = link->interface().index;
  const InterfaceCounters before = *ReadCounters(*netlink_, index);
  EXPECT_EQ(before.name, "eth0");
  const UniqueFd far = *far_->Frames("far", ETH_P_802_EX1);
  ASSERT_TRUE(sys::WriteAll(far.get(), Frame(kOurMac, kFarMac, std::string(1000, 'x'))));
  ASSERT_TRUE(sys::WriteAll(Queue(*link), std::string(kVirtioHeader, '\0') +
                                              Frame(kFarMac, kOurMac, std::string(500, 'x'))));
  EXPECT_NE(NextFrame(far.get(), kSoon), "");
  const InterfaceCounters after = *ReadCounters(*netlink_, index);
  EXPECT_GE(after.received.bytes - before.received.bytes, 1000U);
  EXPECT_GE(after.received.packets - before.received.packets, 1U);
  EXPECT_GE(after.sent.bytes - before.sent.bytes, 500U);
  EXPECT_GE(after.sent.packets - before.sent.packets, 1U);
  EXPECT_EQ(ReadCounters(*netlink_, 99).error().errnum(), ENODEV);
}

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

TEST_F(TapLinkTest, OneAtATime) {
  for (const size_t queues : {1, 2}) {
    const auto first = Link(queues);
    ASSERT_TRUE(first) << first.error().message();
    const auto second = Link(queues);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code(), ErrorCode::kAlreadyExists);
    EXPECT_EQ(second.error().message(), "interface eth0: tap: a VM has it already");
  }
  const auto first = Link();
  EXPECT_FALSE(AnswersArp());
  EXPECT_THAT(NextFrame(Queue(*first), kSoon), EndsWith(ArpRequest()));
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
      ::_exit(link && RemoveStaleFilters(path) && !AnswersArp() ? 0 : 1);  // it is not stale yet
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
    const Status done = RemoveStaleFilters(path);
    ASSERT_TRUE(done) << done.error().message();
    EXPECT_EQ(Filters(), 0U);
    EXPECT_EQ(Qdiscs(), another ? 1U : 0U);
    EXPECT_TRUE(AnswersArp());
  }
  EXPECT_TRUE(RemoveStaleFilters("/nowhere"));
  EXPECT_TRUE(RemoveStaleFilters(""));
  EXPECT_FALSE(RemoveStaleFilters("/dev/null"));
}

TEST_F(TapLinkTest, AnInterfaceThatGoes) {
  auto link = std::make_optional(std::move(*Link()));
  ASSERT_TRUE(netns_->Ip("link del eth0"));
  link.reset();
  EXPECT_FALSE(netns_->Ip("link show | grep -q bhtap"));
  const auto gone = TapLink::Create(netns_->fd(), netlink_, {99, "eth9", {2}, 1500, "", {2}}, 1);
  ASSERT_FALSE(gone);
  EXPECT_THAT(gone.error().message(), HasSubstr("interface eth9: "));
  EXPECT_FALSE(netns_->Ip("link show | grep -q bhtap"));
}

}  // namespace
}  // namespace bulkhead::shim
