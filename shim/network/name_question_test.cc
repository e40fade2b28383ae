#include "shim/network/name_question.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include "shim/network/test_name_server.h"

namespace bulkhead::shim {
namespace {

using std::chrono::milliseconds;

const std::string kQuery = std::string("\x12\x34\x01\x10\0\1\0\0\0\0\0\0", 12) + "question";
const std::string kAnswer = std::string("\x12\x34\x81\x80\0\1\0\1\0\0\0\0", 12) + "answer";
const std::string kFailure = std::string("\x12\x34\x81\x12\0\1\0\0\0\0\0\0", 12) + "question";

// As NameRelay does it.
std::string Outcome(NameQuestion& question) {
  for (;;) {
    if (const auto answer = question.Advance()) {
      return *answer;
    }
    const auto left =
        std::chrono::ceil<milliseconds>(question.deadline() - NameQuestion::Clock::now());
    if (left <= milliseconds::zero()) {
      return "too late";
    }
    (void)sys::PollOne(question.fd(), question.events(), left);
  }
}

class NameQuestionTest : public NetnsTest {
 protected:
  void Serve() {
    auto server = TestNameServer::Open(*netns_);
    ASSERT_TRUE(server) << server.error().message();
    server_.emplace(std::move(*server));
  }
  std::string Ask(bool tcp, const std::string& query = kQuery) {
    auto question = NameQuestion::Ask(netns_->fd(), tcp, query);
    return question ? Outcome(*question) : question.error().message();
  }

  std::optional<TestNameServer> server_;
};

TEST_F(NameQuestionTest, KnowsWhetherThereIsAServer) {
  EXPECT_FALSE(*HasNameServer(netns_->fd()));
  const auto other =
      InNetns(netns_->fd(), [] { return TestNameServer::Bind(SOCK_DGRAM, 0x7f000001, 53); });
  ASSERT_TRUE(other);
  EXPECT_FALSE(*HasNameServer(netns_->fd()));
  const auto docker =
      InNetns(netns_->fd(), [] { return TestNameServer::Bind(SOCK_DGRAM, 0x7f00000b, 40000); });
  ASSERT_TRUE(docker);
  EXPECT_TRUE(*HasNameServer(netns_->fd()));
}

TEST_F(NameQuestionTest, IsAnsweredOverUdp) {
  Serve();
  auto question = NameQuestion::Ask(netns_->fd(), false, kQuery);
  ASSERT_TRUE(question);
  EXPECT_FALSE(question->Advance());
  sockaddr_in from{};
  EXPECT_EQ(server_->Receive(from), kQuery);
  server_->Send(kAnswer, from);
  EXPECT_EQ(Outcome(*question), kAnswer);
}

TEST_F(NameQuestionTest, IsAnsweredOverTcpInPieces) {
  Serve();
  const std::string query = kQuery + std::string(65535 - kQuery.size(), 'q');
  const std::string answer = kAnswer + std::string(65535 - kAnswer.size(), 'a');
  std::thread server([&] {
    const UniqueFd connection = server_->Accept();
    EXPECT_EQ(TestNameServer::ReadAll(connection.get(), 65537), TestNameServer::Prefixed(query));
    const std::string told = TestNameServer::Prefixed(answer);
    for (const auto& [from, to] : {std::pair<size_t, size_t>{0, 1}, {1, 3}, {3, 65537}}) {
      EXPECT_TRUE(sys::WriteAll(connection.get(), told.substr(from, to - from)));
      std::this_thread::sleep_for(milliseconds(20));
    }
  });
  EXPECT_EQ(Ask(true, query), answer);
  server.join();
}

TEST_F(NameQuestionTest, TakesNothingThatIsNoAnswer) {
  Serve();
  auto question = NameQuestion::Ask(netns_->fd(), false, kQuery);
  sockaddr_in from{};
  (void)server_->Receive(from);
  server_->Send("short", from);
  EXPECT_EQ(Outcome(*question), "");
  for (const std::string& told : {std::string(), std::string("\0\5short", 7),
                                  std::string("\0\x20half", 6), std::string("\0", 1)}) {
    std::thread server([&] {
      const UniqueFd connection = server_->Accept();
      (void)TestNameServer::ReadAll(connection.get(), kQuery.size() + 2);
      EXPECT_TRUE(sys::WriteAll(connection.get(), told));
    });
    EXPECT_EQ(Ask(true), "") << told.size();
    server.join();
  }
}

TEST_F(NameQuestionTest, ANobodyIsAFailedServer) {
  EXPECT_EQ(Ask(false), kFailure);
  EXPECT_EQ(Ask(true), kFailure);
}

TEST_F(NameQuestionTest, WaitsNoLongerThanItMay) {
  Serve();
  for (const bool tcp : {false, true}) {
    auto question = NameQuestion::Ask(netns_->fd(), tcp, kQuery, milliseconds(50));
    ASSERT_TRUE(question);
    EXPECT_EQ(Outcome(*question), "too late");
  }
}

TEST_F(NameQuestionTest, RefusesWhatIsNoQuery) {
  EXPECT_EQ(Ask(false, "elevenbytes"), "a query of 11 bytes");
  EXPECT_EQ(Ask(true, std::string(65536, 'x')), "a query of 65536 bytes");
}

}  // namespace
}  // namespace bulkhead::shim
