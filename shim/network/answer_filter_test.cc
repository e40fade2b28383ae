#include "shim/network/answer_filter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>

#include "shim/network/tap_link.h"
#include "shim/network/test_name_server.h"

namespace bulkhead::shim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kQuiet{200};
constexpr uint32_t kPod = 0x0a010203;    // 10.1.2.3
constexpr uint32_t kOther = 0x0a010204;  // 10.1.2.4

sockaddr_in Address(uint32_t ip, uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(ip);
  return address;
}

Status Connect(int socket, uint32_t ip, uint16_t port) {
  const auto to = Address(ip, port);
  const timeval patience{2, 0};
  (void)::setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  return sys::CheckCall(::connect(socket, reinterpret_cast<const sockaddr*>(&to), sizeof(to)),
                        "connect");
}

class AnswerFilterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto pair = TestNetnsPair::Create();
    if (!pair) {
      GTEST_SKIP() << pair.error().message();
    }
    netns_.emplace(std::move(pair->near));
    far_.emplace(std::move(pair->far));
    ASSERT_TRUE(
        netns_->Ip("link add eth0 address 02:00:00:00:00:01 type veth peer name far "
                   "address 02:00:00:00:00:02 netns " +
                   far_->path()));
    ASSERT_TRUE(far_->Ip("link set far addrgenmode none up"));
    ASSERT_TRUE(netns_->Ip("link set eth0 addrgenmode none up"));
    ASSERT_TRUE(netns_->Ip("addr add 10.1.2.3/24 dev eth0"));
    ASSERT_TRUE(far_->Ip("addr add 10.1.2.4/24 dev far"));
    // Whom the guest would answer for.
    ASSERT_TRUE(far_->Ip("neigh replace 10.1.2.3 lladdr 02:00:00:00:00:01 dev far"));
    netlink_ = std::make_shared<Netlink>(*InNetns(netns_->fd(), [] { return Netlink::Open(); }));
    auto link = TapLink::Create(netns_->fd(), netlink_, ScanNetns(*netlink_)->interfaces.at(0), 1);
    ASSERT_TRUE(link) << link.error().message();
    link_.emplace(std::move(*link));
  }
  void Admit() {
    for (int i = 0; i < 2; ++i) {  // again is as well
      const Status admitted = link_->AdmitAnswers();
      ASSERT_TRUE(admitted) << admitted.error().message();
    }
  }
  UniqueFd Bind(const TestNetns& netns, int type, uint32_t ip, uint16_t port) {
    return *InNetns(netns.fd(), [&] { return TestNameServer::Bind(type, ip, port); });
  }
  // What the guest sees of this text; empty: it does not.
  bool GuestGets(const std::string& text) {
    for (;;) {
      const std::string frame = NextFrame(link_->queues().at(0).get(), kQuiet);
      if (frame.empty() || frame.find(text) != std::string::npos) {
        return !frame.empty();
      }
    }
  }
  // From the far end's port to one of the pod's.
  void Send(const UniqueFd& from, uint16_t to, const std::string& text) {
    const auto address = Address(kPod, to);
    EXPECT_EQ(::sendto(from.get(), text.data(), text.size(), 0,
                       reinterpret_cast<const sockaddr*>(&address), sizeof(address)),
              static_cast<ssize_t>(text.size()));
  }

  std::optional<TestNetns> netns_;
  std::optional<TestNetns> far_;
  std::shared_ptr<Netlink> netlink_;
  std::optional<TapLink> link_;
};

TEST_F(AnswerFilterTest, AnAnswerOverUdpReachesWhoAsked) {
  Admit();
  const UniqueFd server = Bind(*far_, SOCK_DGRAM, kOther, 53);
  const UniqueFd client = Bind(*netns_, SOCK_DGRAM, kPod, 40000);
  ASSERT_TRUE(Connect(client.get(), kOther, 53));
  ASSERT_TRUE(sys::WriteAll(client.get(), "question"));
  ASSERT_TRUE(*sys::PollOne(server.get(), POLLIN, seconds(5)));
  Send(server, 40000, "answer");
  ASSERT_TRUE(*sys::PollOne(client.get(), POLLIN, seconds(5)));
  EXPECT_EQ(TestNameServer::ReadAll(client.get(), 6), "answer");
  EXPECT_FALSE(GuestGets("answer"));
}

TEST_F(AnswerFilterTest, AnAnswerOverTcpReachesWhoAsked) {
  Admit();
  const UniqueFd server = Bind(*far_, SOCK_STREAM, kOther, 53);
  ASSERT_EQ(::listen(server.get(), 1), 0);
  const UniqueFd client = Bind(*netns_, SOCK_STREAM, kPod, 0);
  const Status connected = Connect(client.get(), kOther, 53);
  ASSERT_TRUE(connected) << connected.error().message();
  const UniqueFd connection(::accept4(server.get(), nullptr, nullptr, SOCK_CLOEXEC));
  ASSERT_TRUE(sys::WriteAll(connection.get(), "answer"));
  EXPECT_EQ(TestNameServer::ReadAll(client.get(), 6), "answer");
  EXPECT_FALSE(GuestGets("answer"));
}

TEST_F(AnswerFilterTest, AllElseIsTheGuests) {
  Admit();
  const UniqueFd names = Bind(*far_, SOCK_DGRAM, kOther, 53);
  const UniqueFd other = Bind(*far_, SOCK_DGRAM, kOther, 54);
  const UniqueFd client = Bind(*netns_, SOCK_DGRAM, kPod, 40000);
  Send(names, 40001, "to nobody");
  EXPECT_TRUE(GuestGets("to nobody"));
  Send(other, 40000, "from elsewhere");
  EXPECT_TRUE(GuestGets("from elsewhere"));
  ASSERT_TRUE(Connect(client.get(), kOther, 54));
  Send(names, 40000, "not asked");
  EXPECT_TRUE(GuestGets("not asked"));
  pollfd nothing{client.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&nothing, 1, 0), 0);
}

TEST_F(AnswerFilterTest, NobodyGetsIn) {
  Admit();
  const UniqueFd listener = Bind(*netns_, SOCK_STREAM, INADDR_ANY, 40000);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  const UniqueFd client = Bind(*far_, SOCK_STREAM, kOther, 53);
  EXPECT_FALSE(Connect(client.get(), kPod, 40000));
  pollfd nothing{listener.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&nothing, 1, 0), 0);
}

TEST_F(AnswerFilterTest, RepliesOfArpAreSeenByBoth) {
  const auto known = [&] { return netns_->Ip("neigh show dev eth0 | grep -q 10.1.2.4.*02:00"); };
  const auto ask = [&] {
    const UniqueFd client = Bind(*netns_, SOCK_DGRAM, kPod, 0);
    EXPECT_TRUE(Connect(client.get(), kOther, 53));
    (void)::send(client.get(), "x", 1, 0);
  };
  const std::string reply("\0\2\2\0\0\0\0\2\x0a\1\2\4", 12);  // of ARP, by the other
  ask();
  EXPECT_TRUE(GuestGets(reply));
  EXPECT_FALSE(known());
  ASSERT_TRUE(netns_->Ip("neigh flush dev eth0"));
  Admit();
  ask();
  EXPECT_TRUE(GuestGets(reply));
  EXPECT_TRUE(known());
}

// Not only with the queueing discipline that it is in, which may be another's.
TEST_F(AnswerFilterTest, GoesWithTheLink) {
  const auto shell = [&](const std::string& command) {
    return InNetns(netns_->fd(), [&]() -> Result<int> { return std::system(command.c_str()); });
  };
  const std::string is_there = "tc filter show dev eth0 ingress | grep -q bulkhead-answers";
  link_.reset();
  ASSERT_EQ(*shell("tc qdisc add dev eth0 clsact"), 0);
  auto link = TapLink::Create(netns_->fd(), netlink_, ScanNetns(*netlink_)->interfaces.at(0), 1);
  ASSERT_TRUE(link) << link.error().message();
  link_.emplace(std::move(*link));
  EXPECT_NE(*shell(is_there), 0);
  Admit();
  EXPECT_EQ(*shell(is_there), 0);
  link_.reset();
  EXPECT_NE(*shell(is_there), 0);
}

}  // namespace
}  // namespace bulkhead::shim
