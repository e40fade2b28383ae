#include "shim/name_relay.h"

#include <gmock/gmock.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/server_posix.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <future>

#include "shim/network/test_name_server.h"

namespace bulkhead::shim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;
using ::testing::HasSubstr;

using Stream = grpc::ServerReaderWriter<pb::NameQuery, pb::NameAnswer>;

const std::string kQuery = std::string("\x12\x34\x01\0\0\1\0\0\0\0\0\0", 12) + "question";
const std::string kAnswer = std::string("\x12\x34\x81\0\0\1\0\0\0\0\0\0", 12) + "answer";

// A guest that does what the test says.
class FakeGuest final : public pb::Agent::Service {
 public:
  using Script = std::function<grpc::Status(Stream&)>;

  void Follow(Script script) {
    const std::lock_guard lock(mutex_);
    script_ = std::move(script);
  }
  grpc::Status ResolveNames(grpc::ServerContext* /*context*/, Stream* stream) override {
    Script script;
    {
      const std::lock_guard lock(mutex_);
      script = script_;
    }
    return script(*stream);
  }

 private:
  std::mutex mutex_;
  Script script_;
};

// Neither is destroyed: in a static program a gRPC server does not survive the end of its threads.
FakeGuest& TheGuest() {
  static auto* const guest = new FakeGuest;
  return *guest;
}

std::shared_ptr<AgentClient> Connect() {
  static grpc::Server* const server = [] {
    grpc::ServerBuilder builder;
    builder.RegisterService(&TheGuest());
    return builder.BuildAndStart().release();
  }();
  sys::SocketPair sockets = *sys::MakeSocketPair(SOCK_STREAM);
  EXPECT_TRUE(sys::SetNonblocking(sockets.second.get(), true));
  grpc::AddInsecureChannelFromFd(server, sockets.second.Release());
  return std::make_shared<AgentClient>(std::move(sockets.first));
}

void Send(Stream& stream, uint64_t id, bool tcp, const std::string& message) {
  pb::NameQuery query;
  query.set_id(id);
  query.set_tcp(tcp);
  query.set_message(message);
  stream.Write(query);
}

// "ID MESSAGE"; empty at the stream's end.
std::string Next(Stream& stream) {
  pb::NameAnswer answer;
  return stream.Read(&answer) ? fmt::format("{} {}", answer.id(), answer.message()) : "";
}

class NameRelayTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto netns = TestNetns::Create();
    if (!netns) {
      GTEST_SKIP() << "no network namespaces: " << netns.error().message();
    }
    netns_.emplace(std::move(*netns));
    ASSERT_TRUE(netns_->Ip("link set lo up"));
    auto server = TestNameServer::Open(*netns_);
    ASSERT_TRUE(server) << server.error().message();
    server_.emplace(std::move(*server));
  }
  // The guest says that it listens, then follows the script, and its call is over.
  void Start(std::function<void(Stream&)> script, milliseconds patience = seconds(10)) {
    TheGuest().Follow([this, script = std::move(script)](Stream& stream) {
      Send(stream, 0, false, "");
      script(stream);
      over_.set_value();
      return grpc::Status::OK;
    });
    auto relay = NameRelay::Start(netns_->Dup(), Connect(), logger_, patience);
    ASSERT_TRUE(relay) << relay.error().message();
    relay_ = std::move(*relay);
  }
  void AwaitEnd() {
    ASSERT_EQ(over_.get_future().wait_for(seconds(10)), std::future_status::ready);
  }
  // After the relay's end.
  std::string Log() {
    relay_.reset();
    return *sys::ReadFile(fmt::format("/proc/self/fd/{}", log_.get()));
  }
  // A guest that sends these is heard no more, and one warning says so.
  void ExpectCut(const std::vector<std::pair<uint64_t, std::string>>& queries,
                 const std::string& reason) {
    Start([&](Stream& stream) {
      for (const auto& [id, message] : queries) {
        Send(stream, id, false, message);
      }
      while (!Next(stream).empty()) {
      }
    });
    AwaitEnd();
    // The warning is written after the guest sees the end.
    const auto deadline = steady_clock::now() + seconds(5);
    while (sys::FStat(log_.get())->st_size == 0 && steady_clock::now() < deadline) {
      std::this_thread::sleep_for(milliseconds(5));
    }
    const std::string log = Log();
    EXPECT_THAT(log, HasSubstr(reason));
    EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 1) << log;
  }

  std::optional<TestNetns> netns_;
  std::optional<TestNameServer> server_;
  UniqueFd log_ = *sys::MemFd("log");
  Logger logger_{"test", log_.get(), LogFormat::kText, LogLevel::kWarning};
  std::promise<void> over_;
  std::unique_ptr<NameRelay> relay_;
};

TEST_F(NameRelayTest, AnswersByTheProtocolThatWasAsked) {
  std::thread server([&] {
    sockaddr_in from{};
    EXPECT_EQ(server_->Receive(from), kQuery);
    server_->Send(kAnswer, from);
    const UniqueFd connection = server_->Accept();
    EXPECT_EQ(TestNameServer::ReadAll(connection.get(), kQuery.size() + 2),
              TestNameServer::Prefixed(kQuery));
    EXPECT_TRUE(sys::WriteAll(connection.get(), TestNameServer::Prefixed(kAnswer + " by tcp")));
  });
  Start([&](Stream& stream) {
    Send(stream, 7, false, kQuery);
    EXPECT_EQ(Next(stream), "7 " + kAnswer);
    Send(stream, 8, true, kQuery);
    EXPECT_EQ(Next(stream), "8 " + kAnswer + " by tcp");
  });
  AwaitEnd();
  server.join();
  EXPECT_EQ(Log(), "");
}

// Each as soon as it comes, whatever the order; and a number may be used again.
TEST_F(NameRelayTest, KeepsManyAtOnceApart) {
  constexpr int kRounds = 3;
  std::thread server([&] {
    for (int round = 0; round < kRounds; ++round) {
      std::vector<std::pair<std::string, sockaddr_in>> queries(NameRelay::kMaxQueries);
      for (auto& [query, from] : queries) {
        query = server_->Receive(from);
      }
      for (auto query = queries.rbegin(); query != queries.rend(); ++query) {
        server_->Send(query->first + " answered", query->second);
      }
    }
  });
  Start([&](Stream& stream) {
    for (int round = 0; round < kRounds; ++round) {
      std::set<std::string> expected;
      std::set<std::string> answers;
      for (uint64_t id = 0; id < NameRelay::kMaxQueries; ++id) {
        Send(stream, id, false, kQuery + std::to_string(id));
        expected.insert(fmt::format("{} {}{} answered", id, kQuery, id));
      }
      for (uint64_t id = 0; id < NameRelay::kMaxQueries; ++id) {
        answers.insert(Next(stream));
      }
      EXPECT_EQ(answers, expected);
    }
  });
  AwaitEnd();
  server.join();
  EXPECT_EQ(Log(), "");
}

TEST_F(NameRelayTest, TellsThatThereIsNoAnswer) {
  Start(
      [&](Stream& stream) {
        Send(stream, 1, false, "short");
        EXPECT_EQ(Next(stream), "1 ");
        Send(stream, 2, false, kQuery);  // nobody answers in time
        EXPECT_EQ(Next(stream), "2 ");
        sockaddr_in from{};
        (void)server_->Receive(from);
        server_->Send(kAnswer, from);  // too late: it reaches nobody
        Send(stream, 2, false, kQuery + "again");
        EXPECT_EQ(server_->Receive(from), kQuery + "again");
        server_->Send(kAnswer + "again", from);
        EXPECT_EQ(Next(stream), "2 " + kAnswer + "again");
      },
      milliseconds(300));
  AwaitEnd();
  EXPECT_EQ(Log(), "");
}

TEST_F(NameRelayTest, NobodyThereIsAFailedServer) {
  server_.reset();
  Start([&](Stream& stream) {
    for (const bool tcp : {false, true}) {
      Send(stream, 5, tcp, kQuery);
      std::string expected = kQuery;
      expected[2] = '\x81';
      expected[3] = '\x02';
      EXPECT_EQ(Next(stream), "5 " + expected);
    }
  });
  AwaitEnd();
}

TEST_F(NameRelayTest, EndsTheStreamOfAGuestThatAsksTooMuch) {
  std::vector<std::pair<uint64_t, std::string>> queries;
  for (uint64_t id = 0; id <= NameRelay::kMaxQueries; ++id) {
    queries.emplace_back(id, kQuery);
  }
  ExpectCut(queries, "names are not resolved any more: the guest sent more than 64 queries");
}

TEST_F(NameRelayTest, EndsTheStreamOfAGuestThatRepeatsANumber) {
  ExpectCut({{3, kQuery}, {3, kQuery}}, "two queries of number 3");
}

TEST_F(NameRelayTest, EndsTheStreamOfAGuestWithAQueryTooLong) {
  ExpectCut({{3, std::string(4097, 'x')}}, "a query of 4097 bytes");
}

TEST_F(NameRelayTest, EndsAtOnceWithQuestionsOpen) {
  Start([&](Stream& stream) {
    for (uint64_t id = 0; id < NameRelay::kMaxQueries; ++id) {
      Send(stream, id, id % 2 == 0, kQuery);
    }
    while (!Next(stream).empty()) {
    }
  });
  sockaddr_in from{};
  EXPECT_EQ(server_->Receive(from), kQuery);
  const auto begin = steady_clock::now();
  EXPECT_EQ(Log(), "");
  EXPECT_LT(steady_clock::now() - begin, seconds(5));
  AwaitEnd();
}

TEST_F(NameRelayTest, SaysWhyItCannotStart) {
  TheGuest().Follow([](Stream&) { return grpc::Status(grpc::UNIMPLEMENTED, "no such thing"); });
  const auto relay = NameRelay::Start(netns_->Dup(), Connect(), logger_);
  ASSERT_FALSE(relay);
  EXPECT_THAT(relay.error().message(), HasSubstr("no such thing"));
}

}  // namespace
}  // namespace bulkhead::shim
