#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <latch>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/sys.h"
#include "base/temp_dir.h"
#include "containerd/task.pb.h"
#include "containerd/ttrpc.pb.h"
#include "rpc/ttrpc_client.h"
#include "rpc/ttrpc_frame.h"
#include "rpc/ttrpc_server.h"
#include "rpc/ttrpc_status.h"

namespace bulkhead::rpc {
namespace {

using namespace std::chrono_literals;
using containerd::task::v2::StateRequest;
using containerd::task::v2::StateResponse;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr char kService[] = "containerd.task.v2.Task";

std::vector<TtrpcFrame> Feed(TtrpcDecoder& decoder, std::string_view bytes) {
  std::vector<TtrpcFrame> frames;
  TtrpcFrame frame;
  while (decoder.Next(bytes, frame)) {
    frames.push_back(frame);
  }
  EXPECT_TRUE(bytes.empty());
  return frames;
}

TEST(TtrpcFrame, HasTheKnownBytes) {
  EXPECT_EQ(EncodeTtrpcFrame(0x01020305, TtrpcType::kRequest, 0x4, "ab"),
            std::string("\x00\x00\x00\x02\x01\x02\x03\x05\x01\x04"
                        "ab",
                        12));
}

TEST(TtrpcFrame, ComesWholeHoweverItIsCut) {
  const std::string bytes = EncodeTtrpcFrame(1, TtrpcType::kRequest, 0, "first") +
                            EncodeTtrpcFrame(3, TtrpcType::kData, kTtrpcNoData, "") +
                            EncodeTtrpcFrame(5, TtrpcType::kResponse, 1, "third");
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    TtrpcDecoder decoder;
    auto frames = Feed(decoder, bytes.substr(0, cut));
    for (auto& frame : Feed(decoder, bytes.substr(cut))) {
      frames.push_back(std::move(frame));
    }
    EXPECT_FALSE(decoder.mid_frame());
    ASSERT_EQ(frames.size(), 3U) << cut;
    EXPECT_EQ(frames[0].data, "first");
    EXPECT_EQ(frames[0].stream, 1U);
    EXPECT_EQ(frames[1].type, TtrpcType::kData);
    EXPECT_EQ(frames[1].flags, kTtrpcNoData);
    EXPECT_EQ(frames[2].data, "third");
    EXPECT_EQ(frames[2].stream, 5U);
  }
}

TEST(TtrpcFrame, OneThatIsTooLongIsToldAtItsHeaderAndSkipped) {
  std::string header = EncodeTtrpcFrame(7, TtrpcType::kRequest, 0, "");
  header[0] = 0;
  header[1] = 0x40;
  header[3] = 1;  // 4 MiB and one byte
  TtrpcDecoder decoder;
  const auto frames = Feed(decoder, header);
  ASSERT_EQ(frames.size(), 1U);
  EXPECT_TRUE(frames[0].too_long);
  EXPECT_EQ(frames[0].stream, 7U);
  EXPECT_TRUE(decoder.mid_frame());
  EXPECT_TRUE(Feed(decoder, std::string(kTtrpcMaxData, 'x')).empty());
  const auto next = Feed(decoder, "x" + EncodeTtrpcFrame(9, TtrpcType::kRequest, 0, "next"));
  ASSERT_EQ(next.size(), 1U);
  EXPECT_EQ(next[0].data, "next");
}

TEST(TtrpcStatus, KeepsTheCodeOfOursAndMakesTheMessageUtf8) {
  const Error error(ErrorCode::kCommandNotFound, "a\xff\xc3\xa9\xed\xa0\x80");
  const auto status = ToRpcStatus(error, ErrorDetail::kCode);
  EXPECT_EQ(status.code(), 5);
  EXPECT_EQ(status.message(), "a?\xc3\xa9???");
  EXPECT_EQ(FromRpcStatus(status).code(), ErrorCode::kCommandNotFound);
  EXPECT_EQ(FromRpcStatus(ToRpcStatus(error, ErrorDetail::kNone)).code(), ErrorCode::kNotFound);
  google::rpc::Status foreign;
  foreign.set_code(5);
  foreign.set_message("no\x1bne");
  EXPECT_EQ(FromRpcStatus(foreign).code(), ErrorCode::kNotFound);
  EXPECT_EQ(FromRpcStatus(foreign).message(), "no?ne");
  foreign.set_code(2);
  EXPECT_EQ(FromRpcStatus(foreign).code(), ErrorCode::kInternal);
}

// A server in a thread, with methods Echo, Fail, Wait (until it is stopped) and State.
class TtrpcTest : public ::testing::Test {
 protected:
  void Start(TtrpcServer::Options options = {}) {
    server_ = std::make_unique<TtrpcServer>(options);
    server_->Register(kService, "Echo", [](std::string_view payload, const CallContext&) {
      return Result<std::string>(std::string(payload));
    });
    server_->Register(kService, "Fail",
                      [](std::string_view, const CallContext&) -> Result<std::string> {
                        return MakeError(ErrorCode::kCommandNotRunnable, "cannot run it");
                      });
    server_->Register(kService, "Throw",
                      [](std::string_view, const CallContext&) -> Result<std::string> {
                        throw std::runtime_error("thrown");
                      });
    server_->Register(kService, "Wait",
                      [this](std::string_view, const CallContext& call) -> Result<std::string> {
                        std::mutex mutex;
                        std::condition_variable_any changed;
                        std::unique_lock lock(mutex);
                        ++waiting_;
                        changed.wait(lock, call.stop_token(), [] { return false; });
                        --waiting_;
                        return MakeError(ErrorCode::kUnavailable, "stopped");
                      });
    server_->RegisterMethod<StateRequest, StateResponse>(
        kService, "State", [](const StateRequest& request, const CallContext& call) {
          StateResponse response;
          response.set_id(request.id());
          response.set_pid(call.deadline() ? 1 : 2);
          response.set_exit_status(call.peer().uid);
          return Result<StateResponse>(response);
        });
    auto listener = sys::ListenUnix(path_, 0600);
    ASSERT_TRUE(listener);
    serving_ = std::thread([this, fd = std::move(*listener)]() mutable {
      EXPECT_TRUE(server_->Serve(std::move(fd)));
    });
  }

  void TearDown() override { Finish(); }

  void Finish() {
    if (serving_.joinable()) {
      server_->Stop();
      serving_.join();
    }
  }

  std::unique_ptr<TtrpcClient> Client() { return *TtrpcClient::Connect(path_); }
  UniqueFd Raw() { return *sys::ConnectUnix(path_); }

  void AwaitWaiting(int count) {
    while (waiting_ != count) {
      std::this_thread::sleep_for(1ms);
    }
  }

  static std::string Request(uint32_t stream, const std::string& method,
                             const std::string& payload = "") {
    ttrpc::Request request;
    request.set_service(kService);
    request.set_method(method);
    request.set_payload(payload);
    return EncodeTtrpcFrame(stream, TtrpcType::kRequest, 0, request.SerializeAsString());
  }

  // The next answer on a raw socket.
  std::pair<uint32_t, ttrpc::Response> Next(int fd) {
    TtrpcFrame frame;
    std::array<std::byte, 1> byte;
    for (;;) {
      const auto count = sys::Read(fd, byte);
      if (!count || *count == 0) {
        ADD_FAILURE() << "closed";
        return {};
      }
      std::string_view bytes(reinterpret_cast<const char*>(byte.data()), 1);
      if (decoder_.Next(bytes, frame)) {
        break;
      }
    }
    ttrpc::Response response;
    EXPECT_TRUE(response.ParseFromString(frame.data));
    return {frame.stream, response};
  }

  TempDir folder_ = *TempDir::Create("/tmp/ttrpc-test-");
  const std::string path_ = folder_.path() + "/socket";
  std::atomic<int> waiting_ = 0;
  std::unique_ptr<TtrpcServer> server_;
  std::thread serving_;
  TtrpcDecoder decoder_;
};

TEST_F(TtrpcTest, Answers) {
  Start();
  const auto client = Client();
  EXPECT_EQ(*client->Call(kService, "Echo", "hello"), "hello");
  EXPECT_EQ(*client->Call(kService, "Echo", ""), "");
  StateRequest request;
  request.set_id("pod");
  const auto state = client->Call<StateResponse>(kService, "State", request, 10s);
  ASSERT_TRUE(state);
  EXPECT_EQ(state->id(), "pod");
  EXPECT_EQ(state->pid(), 1U);  // the deadline went along
  EXPECT_EQ(state->exit_status(), ::geteuid());
  EXPECT_EQ(client->Call<StateResponse>(kService, "State", request)->pid(), 2U);
  EXPECT_EQ(
      client->Call<StateResponse>(kService, "State", request, std::chrono::milliseconds::max())
          ->pid(),
      2U);
}

TEST_F(TtrpcTest, MetadataGoesAlong) {
  Start();
  CallContext::Metadata seen;
  server_->Register(kService, "Metadata", [&](std::string_view, const CallContext& call) {
    seen = call.metadata();
    return Result<std::string>("");
  });
  const TtrpcClient::Metadata sent{
      {"containerd-namespace-ttrpc", "k8s.io"}, {"twice", "a"}, {"twice", ""}};
  ASSERT_TRUE(Client()->Call(kService, "Metadata", "", 10s, sent));
  EXPECT_EQ(seen, sent);
  ASSERT_TRUE(Client()->Call(kService, "Metadata", "", 10s));
  EXPECT_TRUE(seen.empty());
}

TEST_F(TtrpcTest, ConnectEndsInTimeWhenNobodyAccepts) {
  const UniqueFd listener = *sys::ListenUnix(path_, 0600, 0);
  const auto first = TtrpcClient::Connect(path_, 10s);
  ASSERT_TRUE(first);
  EXPECT_FALSE(TtrpcClient::Connect(path_, 50ms));  // the queue of one is full
}

TEST_F(TtrpcTest, ErrorsKeepTheirCode) {
  Start();
  const auto client = Client();
  auto failed = client->Call(kService, "Fail", "");
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code(), ErrorCode::kCommandNotRunnable);
  EXPECT_EQ(failed.error().message(), "cannot run it");
  EXPECT_EQ(client->Call(kService, "None", "").error().code(), ErrorCode::kUnimplemented);
  EXPECT_EQ(client->Call("other", "Echo", "").error().code(), ErrorCode::kUnimplemented);
  EXPECT_EQ(client->Call(kService, "State", "\xff").error().code(), ErrorCode::kInvalidArgument);
  EXPECT_THAT(client->Call(kService, "Throw", "").error().message(), HasSubstr("thrown"));
  EXPECT_FALSE(client->closed());
}

// containerd 2 would add "proto: not found" to the message of an error with a detail of ours.
TEST_F(TtrpcTest, AClientThatDoesNotAskForOurCodeGetsNoDetail) {
  Start();
  const UniqueFd raw = Raw();
  ASSERT_TRUE(sys::WriteAll(raw.get(), Request(1, "Fail") + Request(3, "None")));
  for (int i = 0; i < 2; ++i) {
    const auto [stream, response] = Next(raw.get());
    EXPECT_NE(response.status().code(), 0);
    EXPECT_EQ(response.status().details_size(), 0) << stream;
  }
}

TEST_F(TtrpcTest, AnswersLeaveOutOfOrder) {
  Start();
  const UniqueFd raw = Raw();
  ASSERT_TRUE(sys::WriteAll(raw.get(), Request(1, "Wait") + Request(3, "Echo", "second")));
  const auto [stream, response] = Next(raw.get());
  EXPECT_EQ(stream, 3U);
  EXPECT_EQ(response.payload(), "second");
  AwaitWaiting(1);
  server_->Stop();  // and the one that waited is still answered
  const auto [last, stopped] = Next(raw.get());
  EXPECT_EQ(last, 1U);
  EXPECT_EQ(FromRpcStatus(stopped.status()).code(), ErrorCode::kUnavailable);
}

TEST_F(TtrpcTest, ManyConcurrentCalls) {
  Start();
  const auto client = Client();
  std::vector<std::thread> threads;
  std::atomic<int> good = 0;
  std::latch go(100);
  threads.reserve(100);
  for (int i = 0; i < 100; ++i) {
    threads.emplace_back([&, i] {
      go.arrive_and_wait();
      for (int j = 0; j < 5; ++j) {
        const std::string text = std::to_string(i) + std::string(static_cast<size_t>(i) * 500, 'x');
        const auto answer = client->Call(kService, "Echo", text, 60s);
        good += answer && *answer == text ? 1 : 0;
      }
    });
  }
  for (auto& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(good, 500);
}

TEST_F(TtrpcTest, ADeadlineEndsTheCallOnly) {
  Start();
  const auto client = Client();
  EXPECT_EQ(client->Call(kService, "Wait", "", 20ms).error().code(), ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(client->Call(kService, "Wait", "", 0ms).error().code(), ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(*client->Call(kService, "Echo", "after", 10s), "after");
}

TEST_F(TtrpcTest, TooMuchIsRefusedAndTheConnectionStays) {
  Start();
  const auto client = Client();
  const std::string most(kTtrpcMaxData - 100, 'm');
  EXPECT_EQ(*client->Call(kService, "Echo", most), most);
  EXPECT_EQ(client->Call(kService, "Echo", std::string(kTtrpcMaxData, 'm')).error().code(),
            ErrorCode::kResourceExhausted);
  server_->Register(kService, "Big", [](std::string_view, const CallContext&) {
    return Result<std::string>(std::string(kTtrpcMaxData, 'b'));
  });
  EXPECT_EQ(client->Call(kService, "Big", "").error().code(), ErrorCode::kResourceExhausted);
  EXPECT_EQ(*client->Call(kService, "Echo", "after"), "after");

  const UniqueFd raw = Raw();
  ASSERT_TRUE(sys::WriteAll(raw.get(), Request(1, "Echo", std::string(kTtrpcMaxData, 'r'))));
  EXPECT_EQ(Next(raw.get()).second.status().code(), 8);
  ASSERT_TRUE(sys::WriteAll(raw.get(), Request(3, "Echo", "after")));
  EXPECT_EQ(Next(raw.get()).second.payload(), "after");
}

TEST_F(TtrpcTest, OddPeersAreToldOrIgnored) {
  Start();
  const UniqueFd raw = Raw();
  ASSERT_TRUE(sys::WriteAll(raw.get(), Request(2, "Echo")));
  EXPECT_EQ(Next(raw.get()).second.status().code(), 3);
  ASSERT_TRUE(
      sys::WriteAll(raw.get(), EncodeTtrpcFrame(1, TtrpcType::kRequest, 0, "\xff not protobuf")));
  EXPECT_EQ(Next(raw.get()).second.status().code(), 3);
  std::string stream = Request(3, "Echo");
  stream[9] = kTtrpcRemoteOpen;
  ASSERT_TRUE(sys::WriteAll(raw.get(), stream));
  EXPECT_EQ(Next(raw.get()).second.status().code(), 12);
  ASSERT_TRUE(sys::WriteAll(raw.get(), EncodeTtrpcFrame(3, TtrpcType::kData, 0, "data") +
                                           EncodeTtrpcFrame(3, static_cast<TtrpcType>(77), 0, "") +
                                           Request(5, "Echo", "after")));
  EXPECT_EQ(Next(raw.get()).second.payload(), "after");
}

TEST_F(TtrpcTest, APeerThatLeavesCancelsItsCalls) {
  Start();
  {
    const UniqueFd raw = Raw();
    ASSERT_TRUE(sys::WriteAll(raw.get(), Request(1, "Wait") + Request(3, "Echo").substr(0, 13)));
    AwaitWaiting(1);
  }
  AwaitWaiting(0);
  EXPECT_EQ(*Client()->Call(kService, "Echo", "others"), "others");
}

TEST_F(TtrpcTest, CallsBeyondTheLimitAreRefused) {
  TtrpcServer::Options options;
  options.max_calls = 2;
  Start(options);
  const UniqueFd raw = Raw();
  ASSERT_TRUE(sys::WriteAll(raw.get(), Request(1, "Wait") + Request(3, "Wait")));
  AwaitWaiting(2);
  const auto client = Client();
  EXPECT_EQ(client->Call(kService, "Echo", "").error().code(), ErrorCode::kResourceExhausted);
  EXPECT_EQ(server_->running_calls(), 2U);
}

TEST_F(TtrpcTest, ALostServerFailsEveryCall) {
  auto pair = *sys::MakeSocketPair(SOCK_STREAM);
  const auto client = *TtrpcClient::FromFd(std::move(pair.first));
  std::vector<std::thread> threads;
  std::atomic<int> lost = 0;
  threads.reserve(8);
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      const auto answer = client->Call(kService, "Wait", "");
      lost += !answer && answer.error().code() == ErrorCode::kUnavailable ? 1 : 0;
    });
  }
  std::array<std::byte, 10> header;
  ASSERT_TRUE(sys::Read(pair.second.get(), header));
  ASSERT_TRUE(sys::WriteAll(pair.second.get(),
                            EncodeTtrpcFrame(1, TtrpcType::kResponse, 0, "half").substr(0, 12)));
  pair.second.Reset();
  for (auto& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(lost, 8);
  EXPECT_TRUE(client->closed());
  EXPECT_THAT(client->Call(kService, "Echo", "").error().message(),
              StartsWith("the connection to the pod's daemon was lost"));
}

TEST_F(TtrpcTest, ADeadlineHoldsWhenTheServerDoesNotRead) {
  auto pair = *sys::MakeSocketPair(SOCK_STREAM);
  const auto client = *TtrpcClient::FromFd(std::move(pair.first));
  const std::string large(2U << 20U, 'x');
  EXPECT_EQ(client->Call(kService, "Echo", large, 50ms).error().code(),
            ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(client->Call(kService, "Echo", "", 5s).error().code(), ErrorCode::kUnavailable);
}

TEST_F(TtrpcTest, CloseFreesACallThatWaits) {
  Start();
  const auto client = Client();
  std::thread caller([&] {
    EXPECT_EQ(client->Call(kService, "Wait", "").error().code(), ErrorCode::kUnavailable);
  });
  AwaitWaiting(1);
  client->Close();
  caller.join();
}

TEST_F(TtrpcTest, StopFromAHandlerAnswersItFirst) {
  Start();
  server_->Register(kService, "Shutdown", [this](std::string_view, const CallContext& call) {
    server_->Stop();
    EXPECT_TRUE(call.Cancelled());
    return Result<std::string>("bye");
  });
  const auto client = Client();
  EXPECT_EQ(*client->Call(kService, "Shutdown", "", 10s), "bye");
  serving_.join();
  EXPECT_EQ(client->Call(kService, "Echo", "", 10s).error().code(), ErrorCode::kUnavailable);
}

TEST_F(TtrpcTest, StopRefusesNothing) {
  Start();
  server_->Register(kService, "Shutdown", [this](std::string_view, const CallContext&) {
    server_->Stop();
    return Result<std::string>("bye");
  });
  const UniqueFd raw = Raw();
  std::string requests = Request(1, "Shutdown");
  for (uint32_t stream = 3; stream < 1000; stream += 2) {
    requests += Request(stream, "Echo", "x");
  }
  ASSERT_TRUE(sys::WriteAll(raw.get(), requests));
  serving_.join();
  const std::string answers = *sys::ReadFd(raw.get(), 1U << 20U, "answers");
  std::string_view rest = answers;
  TtrpcFrame frame;
  bool stopped = false;
  while (decoder_.Next(rest, frame)) {
    ttrpc::Response response;
    ASSERT_TRUE(response.ParseFromString(frame.data));
    EXPECT_EQ(response.status().code(), 0) << response.status().message();
    stopped = stopped || response.payload() == "bye";
  }
  EXPECT_TRUE(stopped);
}

TEST_F(TtrpcTest, StopDoesNotWaitForAHandlerThatIgnoresIt) {
  TtrpcServer::Options options;
  options.stop_grace = 50ms;
  Start(options);
  std::latch started(1);
  std::latch release(1);
  std::latch gone(1);
  server_->Register(kService, "Stuck", [&](std::string_view, const CallContext&) {
    started.count_down();
    release.wait();
    gone.count_down();
    return Result<std::string>("late");
  });
  const auto client = Client();
  std::thread caller([&] {
    EXPECT_EQ(client->Call(kService, "Stuck", "").error().code(), ErrorCode::kUnavailable);
  });
  started.wait();
  Finish();
  EXPECT_EQ(server_->running_calls(), 1U);
  caller.join();
  release.count_down();
  gone.wait();
  while (server_->running_calls() != 0) {
    std::this_thread::sleep_for(1ms);
  }
}

TEST_F(TtrpcTest, StopFreesAWriterWhosePeerDoesNotRead) {
  TtrpcServer::Options options;
  options.stop_grace = 50ms;
  Start(options);
  const UniqueFd raw = Raw();
  ASSERT_TRUE(sys::WriteAll(raw.get(), Request(1, "Echo", std::string(3U << 20U, 'e'))));
  while (server_->running_calls() != 1) {
    std::this_thread::sleep_for(1ms);
  }
  Finish();
  // Serve() does not wait for ever for what it has freed; this machine may be slow.
  const auto end = std::chrono::steady_clock::now() + 30s;
  while (server_->running_calls() != 0 && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(1ms);
  }
  EXPECT_EQ(server_->running_calls(), 0U);
}

TEST_F(TtrpcTest, StopBeforeServe) {
  TtrpcServer server;
  server.Stop();
  EXPECT_TRUE(server.Serve(*sys::ListenUnix(path_, 0600)));
}

}  // namespace
}  // namespace bulkhead::rpc
