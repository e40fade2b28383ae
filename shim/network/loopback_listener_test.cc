#include "shim/network/loopback_listener.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include "shim/network/test_netns.h"

namespace bulkhead::shim {
namespace {

constexpr std::chrono::milliseconds kSoon{2000};

// From within the namespace, as an engine does it.
Result<UniqueFd> Dial(const TestNetns& netns, const char* ip, uint16_t port) {
  return InNetns(netns.fd(), [&]() -> Result<UniqueFd> {
    const bool ip6 = std::string_view(ip).find(':') != std::string_view::npos;
    UniqueFd socket(::socket(ip6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in6 to6{};
    to6.sin6_family = AF_INET6;
    to6.sin6_port = htons(port);
    sockaddr_in to4{};
    to4.sin_family = AF_INET;
    to4.sin_port = htons(port);
    ::inet_pton(to6.sin6_family, ip, &to6.sin6_addr);
    ::inet_pton(to4.sin_family, ip, &to4.sin_addr);
    const auto* to =
        ip6 ? reinterpret_cast<const sockaddr*>(&to6) : reinterpret_cast<const sockaddr*>(&to4);
    TRY(sys::CheckCall(::connect(socket.get(), to, ip6 ? sizeof(to6) : sizeof(to4)), "connect"));
    return socket;
  });
}

class LoopbackListenerTest : public NetnsTest {
 protected:
  void MakeReady() override {
    ASSERT_TRUE(netns_->Ip("address add 10.1.2.3/32 dev lo"));
    auto listener = LoopbackListener::Open(netns_->fd());
    ASSERT_TRUE(listener) << listener.error().message();
    listener_.emplace(std::move(*listener));
  }

  std::optional<LoopbackListener> listener_;
};

TEST_F(LoopbackListenerTest, TakesEveryPortOfLoopbackAndTellsWhich) {
  const std::vector<std::pair<const char*, uint16_t>> targets = {
      {"127.0.0.1", 80}, {"127.0.0.1", 65535}, {"127.9.8.7", 8080}, {"::1", 443}};
  for (const auto& [ip, port] : targets) {
    const auto client = Dial(*netns_, ip, port);
    ASSERT_TRUE(client) << ip << " " << client.error().message();
    ASSERT_TRUE(*sys::PollOne(listener_->fd(), POLLIN, kSoon)) << ip;
    const auto taken = listener_->Accept();
    ASSERT_TRUE(taken && *taken) << ip;
    EXPECT_EQ((*taken)->port, port);
    ASSERT_EQ(::send((*taken)->socket.get(), "hello", 5, 0), 5);
    std::array<char, 8> buffer{};
    EXPECT_EQ(::recv(client->get(), buffer.data(), buffer.size(), 0), 5);
  }
  const auto none = listener_->Accept();
  EXPECT_TRUE(none && !*none);
}

TEST_F(LoopbackListenerTest, LeavesOtherAddressesAlone) {
  EXPECT_EQ(Dial(*netns_, "10.1.2.3", 80).error().errnum(), ECONNREFUSED);
  EXPECT_EQ(Dial(*netns_, "127.0.0.11", 53).error().errnum(), ECONNREFUSED);
}

// Its own port is open at every address, as the program is not asked there.
TEST_F(LoopbackListenerTest, DropsWhatWasNotDialedAtLoopback) {
  sockaddr_in6 own{};
  socklen_t size = sizeof(own);
  ASSERT_EQ(::getsockname(listener_->fd(), reinterpret_cast<sockaddr*>(&own), &size), 0);
  const auto client = Dial(*netns_, "10.1.2.3", ntohs(own.sin6_port));
  ASSERT_TRUE(client);
  ASSERT_TRUE(*sys::PollOne(listener_->fd(), POLLIN, kSoon));
  const auto taken = listener_->Accept();
  ASSERT_TRUE(taken);
  EXPECT_FALSE(*taken);
}

TEST_F(LoopbackListenerTest, EndsWithItsOwner) {
  listener_.reset();
  EXPECT_EQ(Dial(*netns_, "127.0.0.1", 80).error().errnum(), ECONNREFUSED);
}

TEST(LoopbackListener, NamesWhatIsWrong) {
  const auto file = sys::Open("/dev/null", O_RDONLY);
  ASSERT_TRUE(file);
  EXPECT_FALSE(LoopbackListener::Open(file->get()));
}

}  // namespace
}  // namespace bulkhead::shim
