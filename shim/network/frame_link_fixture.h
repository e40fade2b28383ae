// An interface of a pod's namespace, and who is at its far end.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "shim/network/frame_link.h"
#include "shim/network/test_netns.h"

namespace bulkhead::shim {

inline constexpr std::chrono::milliseconds kSoon{2000};
inline constexpr std::chrono::milliseconds kQuiet{300};
inline constexpr size_t kVirtioHeader = 10;  // virtio_net_hdr: its file is not for C++
inline const std::string kOurMac("\x02\0\0\0\0\x01", 6);
inline const std::string kFarMac("\x02\0\0\0\0\x02", 6);

inline std::string Frame(const std::string& to, const std::string& from, const std::string& text) {
  std::string frame = to + from + "\x88\xb5" + text;  // ETH_P_802_EX1
  frame.resize(std::max<size_t>(frame.size(), ETH_ZLEN), '.');
  return frame;
}

// "Who has 10.1.2.3?", asked by 10.1.2.4; of eth0 alone, for what is for all reaches the host's
// stack beside a macvtap.
inline std::string ArpRequest() {
  std::string frame = kOurMac + kFarMac + std::string("\x08\x06\0\1\x08\0\6\4\0\1", 10) + kFarMac +
                      std::string("\x0a\1\2\4\0\0\0\0\0\0\x0a\1\2\3", 14);
  frame.resize(ETH_ZLEN, '\0');
  return frame;
}

// The VLAN of the next frame, which the kernel tells beside it; 0: none.
inline int NextTag(int fd) {
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

class FrameLinkFixture : public ::testing::Test {
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
  static int Queue(const FrameLink& link, size_t number = 0) {
    return link.queues().at(number).get();
  }
  HostInterface Interface() { return ScanNetns(*netlink_)->interfaces.at(0); }
  // Both ways, and the host's stack is silent.
  bool Carries(const FrameLink& link) {
    const UniqueFd far = *far_->Frames("far", ETH_P_802_EX1);
    const std::string out = Frame(kFarMac, kOurMac, "out");
    return !AnswersArp() && NextFrame(Queue(link), kSoon).ends_with(ArpRequest()) &&
           sys::WriteAll(Queue(link), std::string(kVirtioHeader, '\0') + out) &&
           NextFrame(far.get(), kSoon) == out;
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

}  // namespace bulkhead::shim
