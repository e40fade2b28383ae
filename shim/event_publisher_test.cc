#include "shim/event_publisher.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <set>
#include <vector>

#include "base/sys.h"
#include "base/temp_dir.h"
#include "containerd/events.pb.h"
#include "containerd/forward.pb.h"
#include "google/protobuf/empty.pb.h"
#include "rpc/ttrpc_server.h"
#include "shim/typed_any.h"

namespace bulkhead::shim {
namespace {

using namespace std::chrono_literals;
using containerd::services::events::ttrpc::v1::Envelope;
using containerd::services::events::ttrpc::v1::ForwardRequest;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

google::protobuf::Any Exit(const std::string& id) {
  containerd::events::TaskExit event;
  event.set_container_id(id);
  event.set_id(id);
  return PackAny(event);
}

google::protobuf::Any Start(const std::string& id) {
  containerd::events::TaskStart event;
  event.set_container_id(id);
  return PackAny(event);
}

// Both events have the container's id in field 1.
std::string IdOf(const Envelope& envelope) {
  containerd::events::TaskStart event;
  EXPECT_TRUE(event.ParseFromString(envelope.event().value()));
  return event.container_id();
}

// Our ttrpc server as containerd: what it has been told outlives its restarts.
class FakeContainerd {
 public:
  using Hook = std::function<Status(const Envelope&, const rpc::CallContext&)>;

  explicit FakeContainerd(std::string path) : path_(std::move(path)) {}
  ~FakeContainerd() { Kill(); }

  void Serve() {
    rpc::TtrpcServerOptions options;
    options.stop_grace = 200ms;
    server_ = std::make_unique<rpc::TtrpcServer>(options);
    server_->RegisterMethod<ForwardRequest, google::protobuf::Empty>(
        "containerd.services.events.ttrpc.v1.Events", "Forward",
        [this](const ForwardRequest& request, const rpc::CallContext& call) {
          return Take(request.envelope(), call);
        });
    (void)sys::Unlink(path_);
    auto listener = sys::ListenUnix(path_, 0600);
    ASSERT_TRUE(listener) << listener.error().message();
    serving_ = std::thread([this, fd = std::move(*listener)]() mutable {
      EXPECT_TRUE(server_->Serve(std::move(fd)));
    });
  }

  void Kill() {
    if (serving_.joinable()) {
      server_->Stop();
      serving_.join();
    }
  }

  void SetHook(Hook hook) {
    const std::lock_guard lock(mutex_);
    hook_ = std::move(hook);
  }

  std::vector<Envelope> events() const {
    const std::lock_guard lock(mutex_);
    return events_;
  }

  std::vector<std::string> ids() const {
    std::vector<std::string> ids;
    for (const Envelope& envelope : events()) {
      ids.push_back(IdOf(envelope));
    }
    return ids;
  }

  rpc::CallContext::Metadata metadata() const {
    const std::lock_guard lock(mutex_);
    return metadata_;
  }

 private:
  Result<google::protobuf::Empty> Take(const Envelope& envelope, const rpc::CallContext& call) {
    Hook hook;
    {
      const std::lock_guard lock(mutex_);
      hook = hook_;
    }
    if (hook) {
      TRY(hook(envelope, call));
    }
    const std::lock_guard lock(mutex_);
    events_.push_back(envelope);
    metadata_ = call.metadata();
    return google::protobuf::Empty();
  }

  const std::string path_;
  mutable std::mutex mutex_;  // of the next three
  std::vector<Envelope> events_;
  rpc::CallContext::Metadata metadata_;
  Hook hook_;
  std::unique_ptr<rpc::TtrpcServer> server_;
  std::thread serving_;
};

class EventPublisherTest : public ::testing::Test {
 protected:
  std::unique_ptr<EventPublisher> Make(EventPublisherOptions options = {}) {
    return std::make_unique<EventPublisher>(path_, "default", logger_, options);
  }

  std::string Logged() { return *sys::ReadFile(folder_.path() + "/log"); }

  TempDir folder_ = *TempDir::Create("/tmp/events-test-");
  const std::string path_ = folder_.path() + "/containerd.sock.ttrpc";
  UniqueFd log_ = *sys::Open(folder_.path() + "/log", O_CREAT | O_WRONLY | O_APPEND, 0600);
  Logger logger_{"test", log_.get(), LogFormat::kText, LogLevel::kDebug};
  FakeContainerd containerd_{path_};
};

std::vector<std::string> Numbers(int begin, int end) {
  std::vector<std::string> numbers;
  for (int i = begin; i < end; ++i) {
    numbers.push_back(std::to_string(i));
  }
  return numbers;
}

TEST_F(EventPublisherTest, AnEventIsWhatContainerdExpects) {
  containerd_.Serve();
  const auto publisher = Make();
  const auto before = std::chrono::system_clock::now();
  publisher->Publish(kTopicExit, Exit("c1"));
  ASSERT_TRUE(publisher->Flush(30s));
  ASSERT_EQ(containerd_.events().size(), 1U);
  const Envelope envelope = containerd_.events()[0];
  EXPECT_EQ(envelope.topic(), "/tasks/exit");
  EXPECT_EQ(envelope.namespace_(), "default");
  EXPECT_EQ(envelope.event().type_url(), "containerd.events.TaskExit");
  const auto at =
      std::chrono::system_clock::time_point(std::chrono::seconds(envelope.timestamp().seconds()) +
                                            std::chrono::nanoseconds(envelope.timestamp().nanos()));
  EXPECT_GE(at, before);
  EXPECT_LE(at, std::chrono::system_clock::now());
  EXPECT_THAT(containerd_.metadata(), ElementsAre(std::pair<std::string, std::string>(
                                          "containerd-namespace-ttrpc", "default")));
}

TEST_F(EventPublisherTest, OrderIsKept) {
  containerd_.Serve();
  const auto publisher = Make();
  for (const std::string& id : Numbers(0, 500)) {
    publisher->Publish(kTopicStart, Start(id));
  }
  ASSERT_TRUE(publisher->Flush(60s));
  EXPECT_EQ(containerd_.ids(), Numbers(0, 500));
}

TEST_F(EventPublisherTest, ManyThreads) {
  containerd_.Serve();
  const auto publisher = Make();
  std::vector<std::thread> threads;
  threads.reserve(8);
  for (int thread = 0; thread < 8; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < 50; ++i) {
        publisher->Publish(kTopicStart, Start(std::to_string(thread * 50 + i)));
      }
    });
  }
  for (auto& thread : threads) {
    thread.join();
  }
  ASSERT_TRUE(publisher->Flush(60s));
  const auto ids = containerd_.ids();
  EXPECT_EQ(ids.size(), 400U);
  EXPECT_EQ(std::set<std::string>(ids.begin(), ids.end()).size(), 400U);
  int64_t last = 0;
  for (const Envelope& envelope : containerd_.events()) {
    const int64_t at =
        envelope.timestamp().seconds() * 1'000'000'000 + envelope.timestamp().nanos();
    EXPECT_GE(at, last);
    last = at;
  }
}

TEST_F(EventPublisherTest, KeptUntilContainerdIsThere) {
  const auto publisher = Make();
  publisher->Publish(kTopicStart, Start("0"));
  const auto published = std::chrono::system_clock::now();
  publisher->Publish(kTopicExit, Exit("1"));
  EXPECT_FALSE(publisher->Flush(100ms));
  containerd_.Serve();
  ASSERT_TRUE(publisher->Flush(30s));
  EXPECT_EQ(containerd_.ids(), Numbers(0, 2));
  // When it happened, not when it was told.
  EXPECT_LE(containerd_.events()[0].timestamp().seconds(),
            std::chrono::system_clock::to_time_t(published));
  EXPECT_THAT(Logged(), HasSubstr("containerd takes no events, they are kept"));
}

TEST_F(EventPublisherTest, ASocketThatNobodyServes) {
  (void)*sys::ListenUnix(path_, 0600);  // closed at once, the file stays: connection refused
  const auto publisher = Make();
  publisher->Publish(kTopicStart, Start("0"));
  EXPECT_FALSE(publisher->Flush(100ms));
  containerd_.Serve();
  EXPECT_TRUE(publisher->Flush(30s));
  EXPECT_EQ(containerd_.ids(), Numbers(0, 1));
}

TEST_F(EventPublisherTest, ContainerdRestartsOnTheSamePath) {
  containerd_.Serve();
  const auto publisher = Make();
  for (int round = 0; round < 3; ++round) {
    publisher->Publish(kTopicStart, Start(std::to_string(round * 2)));
    ASSERT_TRUE(publisher->Flush(30s));
    containerd_.Kill();
    publisher->Publish(kTopicExit, Exit(std::to_string(round * 2 + 1)));
    EXPECT_FALSE(publisher->Flush(50ms));
    containerd_.Serve();
    ASSERT_TRUE(publisher->Flush(30s));
  }
  EXPECT_EQ(containerd_.ids(), Numbers(0, 6));
}

TEST_F(EventPublisherTest, KilledBeforeItAnswered) {
  std::atomic<int> calls = 0;
  containerd_.SetHook([&](const Envelope&, const rpc::CallContext& call) -> Status {
    if (++calls == 1) {  // until it is killed; the event is not taken
      while (!call.Cancelled()) {
        std::this_thread::sleep_for(1ms);
      }
      return MakeError(ErrorCode::kUnavailable, "the server is stopping");
    }
    return {};
  });
  containerd_.Serve();
  const auto publisher = Make();
  publisher->Publish(kTopicExit, Exit("0"));
  publisher->Publish(kTopicExit, Exit("1"));
  while (calls == 0) {
    std::this_thread::sleep_for(1ms);
  }
  containerd_.Kill();
  EXPECT_TRUE(containerd_.ids().empty());
  containerd_.Serve();
  ASSERT_TRUE(publisher->Flush(30s));
  EXPECT_EQ(containerd_.ids(), Numbers(0, 2));
}

TEST_F(EventPublisherTest, ASlowContainerdGetsEachOnce) {
  containerd_.SetHook([](const Envelope&, const rpc::CallContext&) -> Status {
    std::this_thread::sleep_for(50ms);
    return {};
  });
  containerd_.Serve();
  const auto publisher = Make();
  const auto before = std::chrono::steady_clock::now();
  for (const std::string& id : Numbers(0, 5)) {
    publisher->Publish(kTopicStart, Start(id));
  }
  EXPECT_LT(std::chrono::steady_clock::now() - before, 200ms);  // one after the other: 250 ms
  EXPECT_FALSE(publisher->Flush(1ms));
  ASSERT_TRUE(publisher->Flush(30s));
  EXPECT_EQ(containerd_.ids(), Numbers(0, 5));
}

TEST_F(EventPublisherTest, WithoutAnAnswerItIsSentAgain) {
  std::atomic<int> calls = 0;
  containerd_.SetHook([&](const Envelope&, const rpc::CallContext& call) -> Status {
    EXPECT_TRUE(call.deadline());
    if (++calls == 1) {
      while (!call.Cancelled()) {
        std::this_thread::sleep_for(1ms);
      }
      return MakeError(ErrorCode::kUnavailable, "nobody waits");
    }
    return {};
  });
  containerd_.Serve();
  EventPublisherOptions options;
  options.call_timeout = 300ms;
  const auto publisher = Make(options);
  publisher->Publish(kTopicExit, Exit("0"));
  publisher->Publish(kTopicExit, Exit("1"));
  ASSERT_TRUE(publisher->Flush(30s));
  EXPECT_GE(calls, 3);
  EXPECT_EQ(containerd_.ids(), Numbers(0, 2));
}

TEST_F(EventPublisherTest, WhatIsRefusedIsNotSentAgain) {
  std::atomic<int> calls = 0;
  containerd_.SetHook([&](const Envelope& envelope, const rpc::CallContext&) -> Status {
    ++calls;
    if (IdOf(envelope) == "bad") {
      return MakeError(ErrorCode::kInvalidArgument, "not such an event");
    }
    return {};
  });
  containerd_.Serve();
  const auto publisher = Make();
  publisher->Publish(kTopicStart, Start("bad"));
  publisher->Publish(kTopicStart, Start("0"));
  ASSERT_TRUE(publisher->Flush(30s));
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(containerd_.ids(), Numbers(0, 1));
  EXPECT_THAT(Logged(), HasSubstr("containerd refuses an event: not such an event"));
}

TEST_F(EventPublisherTest, AFullQueueKeepsExits) {
  EventPublisherOptions options;
  options.max_events = 4;
  const auto publisher = Make(options);
  publisher->Publish(kTopicStart, Start("first"));
  while (!sys::Exists(folder_.path() + "/log") || Logged().empty()) {
    std::this_thread::sleep_for(1ms);  // until it is the one being sent
  }
  publisher->Publish(kTopicExit, Exit("exit0"));
  for (const std::string& id : Numbers(0, 10)) {
    publisher->Publish(kTopicStart, Start(id));
  }
  publisher->Publish(kTopicExit, Exit("exit1"));
  containerd_.Serve();
  ASSERT_TRUE(publisher->Flush(30s));
  EXPECT_THAT(containerd_.ids(), ElementsAre("first", "exit0", "8", "9", "exit1"));
  EXPECT_THAT(Logged(), HasSubstr("8 events were dropped"));
}

TEST_F(EventPublisherTest, AQueueFullOfExitsDropsTheOldest) {
  EventPublisherOptions options;
  options.max_events = 2;
  const auto publisher = Make(options);
  publisher->Publish(kTopicStart, Start("first"));
  while (Logged().empty()) {
    std::this_thread::sleep_for(1ms);
  }
  for (const std::string& id : Numbers(0, 4)) {
    publisher->Publish(kTopicExit, Exit(id));
  }
  containerd_.Serve();
  ASSERT_TRUE(publisher->Flush(30s));
  EXPECT_THAT(containerd_.ids(), ElementsAre("first", "2", "3"));
}

TEST_F(EventPublisherTest, EndsAtOnceWhateverContainerdDoes) {
  std::atomic<bool> called = false;
  containerd_.SetHook([&](const Envelope&, const rpc::CallContext& call) -> Status {
    called = true;
    while (!call.Cancelled()) {
      std::this_thread::sleep_for(1ms);
    }
    return {};
  });
  containerd_.Serve();
  auto publisher = Make();
  publisher->Publish(kTopicStart, Start("0"));
  publisher->Publish(kTopicStart, Start("1"));
  while (!called) {
    std::this_thread::sleep_for(1ms);
  }
  EXPECT_FALSE(publisher->Flush(20ms));
  const auto before = std::chrono::steady_clock::now();
  publisher.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - before, 4s);  // the call's limit is 5 s
  EXPECT_THAT(Logged(), HasSubstr("2 events were not delivered"));
}

TEST_F(EventPublisherTest, WithoutAnAddressNothingHappens) {
  EventPublisher publisher("", "default", logger_);
  publisher.Publish(kTopicStart, Start("0"));
  EXPECT_TRUE(publisher.Flush(0ms));
  EXPECT_EQ(Logged(), "");
}

TEST_F(EventPublisherTest, AnAddressMayHaveAScheme) {
  containerd_.Serve();
  EventPublisher publisher("unix://" + path_, "default", logger_);
  publisher.Publish(kTopicStart, Start("0"));
  EXPECT_TRUE(publisher.Flush(30s));
  EXPECT_EQ(containerd_.ids(), Numbers(0, 1));
  EXPECT_THAT(Logged(), Not(HasSubstr("refuses")));
}

}  // namespace
}  // namespace bulkhead::shim
