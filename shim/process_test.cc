#include "shim/process.h"

#include <fcntl.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/server_posix.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <array>
#include <atomic>
#include <future>

#include "base/sys.h"
#include "base/temp_dir.h"

namespace bulkhead::shim {
namespace {

constexpr ProcessExit kKilled{137, 9, 1, false};

// A process whose guest does what the test says.
class Fake final : public Process {
 public:
  explicit Fake(OnExit on_exit = [](const Process&, const Result<ProcessExit>&) {})
      : Process({"c", ""}, {}, std::move(on_exit)) {}

  Status Signal(int /*signal*/, bool /*all*/) override {
    SetExit(kKilled);
    return {};
  }
  Status Resize(uint32_t /*rows*/, uint32_t /*columns*/) override { return {}; }
  void CloseStdin() override {}
  void End(Result<ProcessExit> exit) { SetExit(std::move(exit)); }

  std::promise<void> let_delete;
  std::atomic<int> deletions{0};
  Status deleted;

 private:
  Status DoStart() override { return {}; }
  Status DoDelete(bool /*was_started*/) override {
    ++deletions;
    let_delete.get_future().wait();
    return deleted;
  }
};

TEST(Process, TwoDeletionsAtOnceAreOne) {
  Fake process;
  ASSERT_TRUE(process.Start([] {}));
  process.End(kKilled);
  std::atomic<int> told{0};
  const auto deletion = [&] { return process.Delete([&](const auto&) { ++told; }); };
  auto first = std::async(std::launch::async, deletion);
  auto second = std::async(std::launch::async, deletion);
  process.let_delete.set_value();
  const std::array results{first.get(), second.get()};
  EXPECT_EQ(process.deletions, 1);
  EXPECT_EQ(told, 1);
  ASSERT_NE(results[0].has_value(), results[1].has_value());
  const auto& refused = results[0] ? results[1] : results[0];
  EXPECT_EQ(refused.error().code(), ErrorCode::kNotFound);
  EXPECT_EQ((results[0] ? results[0] : results[1])->code, 137);
}

TEST(Process, OneThatRunsIsNotDeletedAndMayBeLater) {
  Fake process;
  process.let_delete.set_value();
  ASSERT_TRUE(process.Start([] {}));
  EXPECT_EQ(process.Delete([](const auto&) {}).error().code(), ErrorCode::kFailedPrecondition);
  process.End(kKilled);
  EXPECT_TRUE(process.Delete([](const auto&) {}));
}

TEST(Process, OneThatNeverStartedIsKilled) {
  Fake process;
  process.let_delete.set_value();
  const auto exit = process.Delete([](const auto&) {});
  ASSERT_TRUE(exit);
  EXPECT_EQ(exit->code, 137);
}

TEST(Process, AnEndThatIsNotKnownIsUnavailable) {
  Fake process;
  process.let_delete.set_value();
  process.deleted = tl::unexpected(Error(ErrorCode::kNotFound, "no such process"));
  ASSERT_TRUE(process.Start([] {}));
  process.End(tl::unexpected(Error(ErrorCode::kUnavailable, "the VM is gone")));
  EXPECT_EQ(process.Delete([](const auto&) {}).error().code(), ErrorCode::kUnavailable);
}

TEST(Process, WhoeverWaitsHearsOfTheEndLast) {
  std::atomic<bool> told{false};
  std::promise<void> let_tell;
  Fake process([&](const Process&, const Result<ProcessExit>&) {
    let_tell.get_future().wait();
    told = true;
  });
  process.Release();
  auto waiter = std::async(std::launch::async, [&] {
    EXPECT_EQ(process.Wait({})->code, 137);
    return told.load();
  });
  auto end = std::async(std::launch::async, [&] { process.End(kKilled); });
  EXPECT_EQ(waiter.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  let_tell.set_value();
  EXPECT_TRUE(waiter.get());
}

TEST(Process, ItsEndIsToldOnceAndAfterItsStart) {
  std::string told;
  Fake process([&](const Process&, const Result<ProcessExit>&) { told += "exit "; });
  process.Release();
  ASSERT_TRUE(process.Start([&] {
    process.End(kKilled);
    told += "start ";
  }));
  process.End(kKilled);
  EXPECT_EQ(told, "start exit ");
}

std::atomic<int> guest_says = 2;  // words

// A guest whose process has ended with its last words still under way.
class LateOutput final : public pb::Agent::Service {
 public:
  grpc::Status WaitProcess(grpc::ServerContext* /*context*/, const pb::ProcessRef* /*request*/,
                           pb::ExitStatus* response) override {
    response->set_exit_code(7);
    return grpc::Status::OK;
  }

  grpc::Status Stdio(grpc::ServerContext* /*context*/,
                     grpc::ServerReaderWriter<pb::StdioOutput, pb::StdioInput>* stream) override {
    pb::StdioInput open;
    stream->Read(&open);
    const std::array<const char*, 2> words{"last ", "words"};
    for (int i = 0; i < guest_says; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      pb::StdioOutput output;
      output.set_stream(pb::STDOUT);
      output.set_data(words.at(static_cast<size_t>(i)));
      stream->Write(output);
    }
    for (const auto end : {pb::STDERR, pb::STDOUT}) {
      pb::StdioOutput output;
      output.set_stream(end);
      output.set_eof(true);
      stream->Write(output);
    }
    return grpc::Status::OK;
  }
};

// The client's end of a connection to such a guest.
UniqueFd ConnectToGuest() {
  sys::SocketPair sockets = *sys::MakeSocketPair(SOCK_STREAM);
  // Neither is destroyed: in a static program a gRPC server does not survive the end of its
  // threads.
  static auto* const guest = new LateOutput;
  static grpc::Server* const server = [] {
    grpc::ServerBuilder builder;
    builder.RegisterService(guest);
    return builder.BuildAndStart().release();
  }();
  EXPECT_TRUE(sys::SetNonblocking(sockets.second.get(), true));
  grpc::AddInsecureChannelFromFd(server, sockets.second.Release());
  return std::move(sockets.first);
}

class GuestProcessTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(::mkfifo(fifo_.c_str(), 0600), 0); }
  UniqueFd Reader() const { return *sys::Open(fifo_, O_RDONLY | O_NONBLOCK); }
  static std::string ReadSome(const UniqueFd& reader) {
    std::array<char, 64> buffer{};
    const size_t count =
        sys::Read(reader.get(), std::as_writable_bytes(std::span(buffer))).value_or(0);
    return {buffer.data(), count};
  }
  std::unique_ptr<GuestProcess> Make(const StdioPolicy& policy, Process::OnExit on_exit) {
    auto process = std::make_unique<GuestProcess>(
        std::make_shared<AgentClient>(ConnectToGuest()), ProcessName{"c", ""}, ProcessInfo{},
        *StdioRelay::Open({"", fifo_, ""}, policy, nullptr, logger_),
        [](Error error) { return error; }, std::move(on_exit));
    process->Release();
    return process;
  }

  TempDir folder_ = *TempDir::Create("/tmp/process-test-");
  const std::string fifo_ = folder_.path() + "/out";
  Logger logger_{"test", -1, LogFormat::kText, LogLevel::kError};
};

TEST_F(GuestProcessTest, ItsOutputGoesBeforeItsEnd) {
  const UniqueFd reader = Reader();
  std::promise<std::string> at_end;
  const auto process = Make({}, [&](const Process&, const Result<ProcessExit>& exit) {
    at_end.set_value(fmt::format("{} {}", exit ? exit->code : -1, ReadSome(reader)));
  });
  EXPECT_EQ(at_end.get_future().get(), "7 last words");
}

// An engine that is slow may open the fifo when all is over.
TEST_F(GuestProcessTest, ItsOutputWaitsForAReaderThatComesLate) {
  StdioPolicy policy;
  policy.wait_for_reader = true;
  std::promise<void> at_end;
  const auto process = Make(
      policy, [&](const Process&, const Result<ProcessExit>& /*exit*/) { at_end.set_value(); });
  at_end.get_future().get();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const UniqueFd reader = Reader();
  EXPECT_EQ(ReadSome(reader), "last words");
  pollfd entry{reader.get(), POLLIN, 0};
  ASSERT_EQ(::poll(&entry, 1, 5000), 1);
  EXPECT_EQ(entry.revents, POLLHUP);  // its end
}

// Its two ends and that of the stream come at once, in any order to whoever looks.
TEST_F(GuestProcessTest, TheEndOfItsOutputIsNeverMissed) {
  guest_says.store(0);
  for (int i = 0; i < 300; ++i) {
    std::promise<void> at_end;
    const auto process =
        Make({}, [&](const Process&, const Result<ProcessExit>& /*exit*/) { at_end.set_value(); });
    const UniqueFd reader = Reader();
    at_end.get_future().get();
    pollfd entry{reader.get(), POLLIN, 0};
    ASSERT_EQ(::poll(&entry, 1, 5000), 1) << i;
    EXPECT_EQ(entry.revents, POLLHUP) << i;
  }
  guest_says.store(2);
}

}  // namespace
}  // namespace bulkhead::shim
