#include "agent/loopback.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include "base/sys.h"

namespace bulkhead::agent {
namespace {

using ::testing::HasSubstr;

constexpr std::chrono::milliseconds kSoon{5000};

// On ::1 alone.
struct Server {
  Server() {
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_addr = in6addr_loopback;
    socklen_t size = sizeof(address);
    auto* raw = reinterpret_cast<sockaddr*>(&address);
    ready = ::bind(socket.get(), raw, size) == 0 && ::listen(socket.get(), 1) == 0 &&
            ::getsockname(socket.get(), raw, &size) == 0;
    port = ntohs(address.sin6_port);
  }
  UniqueFd Accept() const {
    const bool came = sys::PollOne(socket.get(), POLLIN, kSoon).value_or(false);
    return UniqueFd(came ? ::accept4(socket.get(), nullptr, nullptr, SOCK_CLOEXEC) : -1);
  }

  UniqueFd socket{::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  bool ready = false;
  uint16_t port = 0;
};

class Host : public StdioSink {
 public:
  explicit Host(Stdio& stdio) : stdio_(stdio) {}
  void Send(OutputChunk chunk) override {
    {
      const std::scoped_lock lock(mutex_);
      data_ += chunk.data;
      ended_ |= chunk.eof && chunk.stream == Stream::kStdout;
    }
    changed_.notify_all();
    stdio_.Sent(this, std::nullopt);
  }
  void Close(bool /*replaced*/) override {
    const std::scoped_lock lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }
  template <typename Condition>
  bool Await(Condition condition) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kSoon, condition);
  }

  Stdio& stdio_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string data_;
  bool ended_ = false;
  bool closed_ = false;
};

class LoopbackTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!server_.ready) {
      GTEST_SKIP() << "no IPv6";
    }
    stdio_ = *ConnectLoopback(*loop_, server_.port);
    connection_ = server_.Accept();
    ASSERT_TRUE(connection_);
    host_.emplace(*stdio_);
    stdio_->Attach(&*host_);
    ASSERT_TRUE(stdio_->Input(&*host_, {"question", false, {1000, 0}, {}}));
    std::array<char, 8> question{};
    ASSERT_EQ(::recv(connection_.get(), question.data(), question.size(), MSG_WAITALL), 8);
  }

  std::unique_ptr<IoLoop> loop_ = *IoLoop::Create();
  Server server_;
  UniqueFd connection_;
  std::shared_ptr<Stdio> stdio_;
  std::optional<Host> host_;
};

TEST_F(LoopbackTest, TheHostsEndIsTheServersAndLeavesTheAnswerOpen) {
  ASSERT_TRUE(stdio_->Input(&*host_, {"", true, {0, 0}, {}}));
  char byte = 0;
  EXPECT_EQ(::recv(connection_.get(), &byte, 1, 0), 0);
  ASSERT_EQ(::send(connection_.get(), "answer", 6, 0), 6);
  EXPECT_TRUE(host_->Await([&] { return host_->data_ == "answer"; }));
  connection_.Reset();
  EXPECT_TRUE(host_->Await([&] { return host_->ended_ && host_->closed_; }));
}

TEST_F(LoopbackTest, TheServersEndIsTheHostsAndLeavesTheQuestionOpen) {
  ASSERT_EQ(::shutdown(connection_.get(), SHUT_WR), 0);
  EXPECT_TRUE(host_->Await([&] { return host_->ended_; }));
  ASSERT_TRUE(stdio_->Input(&*host_, {"more", true, {0, 0}, {}}));
  std::array<char, 8> more{};
  EXPECT_EQ(::recv(connection_.get(), more.data(), more.size(), MSG_WAITALL), 4);
  EXPECT_TRUE(host_->Await([&] { return host_->closed_; }));
}

TEST_F(LoopbackTest, AResetEndsBothDirections) {
  const linger at_once{1, 0};
  ASSERT_EQ(::setsockopt(connection_.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)), 0);
  connection_.Reset();
  EXPECT_TRUE(host_->Await([&] { return host_->ended_ && host_->closed_; }));
}

TEST(Loopback, SaysWhyThereIsNoConnection) {
  const auto loop = *IoLoop::Create();
  EXPECT_EQ(ConnectLoopback(*loop, 65536).error().code(), ErrorCode::kInvalidArgument);
  uint16_t port = 0;
  {
    const Server gone;
    port = gone.port;
  }
  const auto refused = ConnectLoopback(*loop, port);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kUnavailable);
  EXPECT_THAT(refused.error().message(), HasSubstr("refused"));
}

}  // namespace
}  // namespace bulkhead::agent
