#include "shim/name_relay.h"

#include <gmock/gmock.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/server_posix.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>

#include "shim/network/test_name_server.h"

namespace bulkhead::shim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;
using ::testing::HasSubstr;

const std::string kQuery = std::string("\x12\x34\x01\0\0\1\0\0\0\0\0\0", 12) + "question";
const std::string kAnswer = std::string("\x12\x34\x81\0\0\1\0\0\0\0\0\0", 12) + "answer";

// The guest's end of a stream, for a script on a thread of its own.
class Stream final : public grpc::ServerBidiReactor<pb::NameAnswer, pb::NameQuery> {
 public:
  using Script = std::function<grpc::Status(Stream&)>;

  explicit Stream(Script script) {
    StartRead(&answer_);
    std::thread([this, script = std::move(script)] { Finish(script(*this)); }).detach();
  }

  void Send(uint64_t id, bool tcp, const std::string& message) {
    std::unique_lock lock(mutex_);
    query_.set_id(id);
    query_.set_tcp(tcp);
    query_.set_message(message);
    writing_ = true;
    StartWrite(&query_);
    changed_.wait(lock, [this] { return !writing_; });
  }
  // "ID MESSAGE"; empty at the stream's end.
  std::string Next() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !answers_.empty() || over_; });
    if (answers_.empty()) {
      return "";
    }
    std::string next = std::move(answers_.front());
    answers_.pop_front();
    return next;
  }

  void OnReadDone(bool ok) override {
    {
      const std::lock_guard lock(mutex_);
      over_ = !ok;
      if (ok) {
        answers_.push_back(fmt::format("{} {}", answer_.id(), answer_.message()));
      }
    }
    changed_.notify_all();
    if (ok) {
      StartRead(&answer_);
    }
  }
  void OnWriteDone(bool /*ok*/) override {
    {
      const std::lock_guard lock(mutex_);
      writing_ = false;
    }
    changed_.notify_all();
  }
  void OnDone() override { delete this; }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  pb::NameQuery query_;
  pb::NameAnswer answer_;
  std::deque<std::string> answers_;
  bool writing_ = false;
  bool over_ = false;
};

// A guest that does what the test says.
class FakeGuest final : public pb::Agent::CallbackService {
 public:
  void Follow(Stream::Script script) {
    const std::lock_guard lock(mutex_);
    script_ = std::move(script);
  }
  grpc::ServerBidiReactor<pb::NameAnswer, pb::NameQuery>* ResolveNames(
      grpc::CallbackServerContext* /*context*/) override {
    const std::lock_guard lock(mutex_);
    return new Stream(script_);
  }

 private:
  std::mutex mutex_;
  Stream::Script script_;
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

class NameRelayTest : public NetnsTest {
 protected:
  void MakeReady() override {
    auto server = TestNameServer::Open(*netns_);
    ASSERT_TRUE(server) << server.error().message();
    server_.emplace(std::move(*server));
  }
  // The guest says that it listens, then follows the script, and its call is over.
  void Start(std::function<void(Stream&)> script, milliseconds patience = seconds(10)) {
    TheGuest().Follow([over = over_, script = std::move(script)](Stream& stream) {
      stream.Send(0, false, "");
      script(stream);
      over->set_value();
      return grpc::Status::OK;
    });
    auto relay = NameRelay::Start(netns_->Dup(), Connect(), logger_, patience);
    ASSERT_TRUE(relay) << relay.error().message();
    relay_ = std::move(*relay);
  }
  void AwaitEnd() {
    ASSERT_EQ(over_->get_future().wait_for(seconds(10)), std::future_status::ready);
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
        stream.Send(id, false, message);
      }
      while (!stream.Next().empty()) {
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

  std::optional<TestNameServer> server_;
  UniqueFd log_ = *sys::MemFd("log");
  Logger logger_{"test", log_.get(), LogFormat::kText, LogLevel::kWarning};
  // The guest's too, which may still be about to leave set_value().
  const std::shared_ptr<std::promise<void>> over_ = std::make_shared<std::promise<void>>();
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
    stream.Send(7, false, kQuery);
    EXPECT_EQ(stream.Next(), "7 " + kAnswer);
    stream.Send(8, true, kQuery);
    EXPECT_EQ(stream.Next(), "8 " + kAnswer + " by tcp");
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
        stream.Send(id, false, kQuery + std::to_string(id));
        expected.insert(fmt::format("{} {}{} answered", id, kQuery, id));
      }
      for (uint64_t id = 0; id < NameRelay::kMaxQueries; ++id) {
        answers.insert(stream.Next());
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
        stream.Send(1, false, "short");
        EXPECT_EQ(stream.Next(), "1 ");
        stream.Send(2, false, kQuery);  // nobody answers in time
        EXPECT_EQ(stream.Next(), "2 ");
        sockaddr_in from{};
        (void)server_->Receive(from);
        server_->Send(kAnswer, from);  // too late: it reaches nobody
        stream.Send(2, false, kQuery + "again");
        EXPECT_EQ(server_->Receive(from), kQuery + "again");
        server_->Send(kAnswer + "again", from);
        EXPECT_EQ(stream.Next(), "2 " + kAnswer + "again");
      },
      milliseconds(300));
  AwaitEnd();
  EXPECT_EQ(Log(), "");
}

TEST_F(NameRelayTest, NobodyThereIsAFailedServer) {
  server_.reset();
  Start([&](Stream& stream) {
    for (const bool tcp : {false, true}) {
      stream.Send(5, tcp, kQuery);
      std::string expected = kQuery;
      expected[2] = '\x81';
      expected[3] = '\x02';
      EXPECT_EQ(stream.Next(), "5 " + expected);
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
      stream.Send(id, id % 2 == 0, kQuery);
    }
    while (!stream.Next().empty()) {
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
