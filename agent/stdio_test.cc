#include "agent/stdio.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <condition_variable>

#include "base/sys.h"

namespace bulkhead::agent {
namespace {

using namespace std::chrono_literals;

// A host that acknowledges at once.
class FakeHost : public StdioSink {
 public:
  explicit FakeHost(Stdio& stdio, bool broken = false) : stdio_(stdio), broken_(broken) {}
  void Send(OutputChunk chunk) override {
    {
      const std::scoped_lock lock(mutex_);
      if (!broken_) {
        data_[static_cast<size_t>(chunk.stream)] += chunk.data;
        eof_[static_cast<size_t>(chunk.stream)] |= chunk.eof;
        ends_[static_cast<size_t>(chunk.stream)] += chunk.eof ? 1 : 0;
        messages_[static_cast<size_t>(chunk.stream)] += chunk.data.empty() ? 0 : 1;
        longest_ = std::max(longest_, chunk.data.size());
        credit_ += chunk.stdin_credit;
        stdin_closed_ |= chunk.stdin_closed;
      }
      changed_.notify_all();
    }
    stdio_.Sent(this, broken_ ? std::optional(std::move(chunk)) : std::nullopt);
  }
  void Close(bool replaced) override {
    const std::scoped_lock lock(mutex_);
    closed_ = true;
    replaced_ = replaced;
    changed_.notify_all();
  }
  template <typename F>
  bool Await(F condition) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, 5s, condition);
  }

  Stdio& stdio_;
  const bool broken_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::array<std::string, 3> data_;
  std::array<bool, 3> eof_{};
  std::array<int, 3> ends_{};
  std::array<int, 3> messages_{};
  size_t longest_ = 0;
  uint64_t credit_ = 0;
  bool stdin_closed_ = false;
  bool closed_ = false;
  bool replaced_ = false;
};

class StdioTest : public ::testing::Test {
 protected:
  StdioTest() : loop_(std::move(*IoLoop::Create())) {
    auto in = std::move(*sys::MakePipe());
    auto out = std::move(*sys::MakePipe());
    auto err = std::move(*sys::MakePipe());
    in_ = std::move(in.read);
    out_ = std::move(out.write);
    err_ = std::move(err.write);
    stdio_ = Stdio::Create(*loop_, {std::move(in.write), std::move(out.read), std::move(err.read)},
                           false);
  }
  static InputChunk Credit(uint32_t out, uint32_t err) { return {"", false, {out, err}, {}}; }

  std::unique_ptr<IoLoop> loop_;
  std::shared_ptr<Stdio> stdio_;
  UniqueFd in_;
  UniqueFd out_;
  UniqueFd err_;
};

TEST_F(StdioTest, ReadsNoMoreThanTheCredit) {
  FakeHost host(*stdio_);
  stdio_->Attach(&host);
  ASSERT_TRUE(sys::WriteAll(out_.get(), "0123456789"));
  ASSERT_TRUE(sys::WriteAll(err_.get(), "abc"));
  stdio_->Input(&host, Credit(4, 100));
  ASSERT_TRUE(host.Await([&] { return host.data_[2] == "abc"; }));
  EXPECT_EQ(host.data_[1], "0123");
  stdio_->Input(&host, Credit(100, 0));
  out_.Reset();
  ASSERT_TRUE(host.Await([&] { return host.eof_[1]; }));
  EXPECT_EQ(host.data_[1], "0123456789");
  EXPECT_FALSE(host.eof_[2]);
  stdio_->Detach(&host);
}

TEST_F(StdioTest, WhatABrokenStreamHeldComesAgain) {
  ASSERT_TRUE(sys::WriteAll(out_.get(), "precious"));
  out_.Reset();
  FakeHost broken(*stdio_, true);
  stdio_->Attach(&broken);
  stdio_->Input(&broken, Credit(100, 100));
  stdio_->Detach(&broken);
  FakeHost host(*stdio_);
  stdio_->Attach(&host);
  stdio_->Input(&host, Credit(100, 100));
  ASSERT_TRUE(host.Await([&] { return host.eof_[1]; }));
  EXPECT_EQ(host.data_[1], "precious");
  stdio_->Detach(&host);
}

TEST_F(StdioTest, StdinEndsAndTheStreamAfterIt) {
  FakeHost host(*stdio_);
  stdio_->Attach(&host);
  ASSERT_TRUE(host.Await([&] { return host.credit_ >= Stdio::kStdinWindow; }));
  stdio_->Input(&host, {"hello", true, {10, 10}, {}});
  EXPECT_EQ(*sys::ReadFd(in_.get(), 100, "stdin"), "hello");
  out_.Reset();
  err_.Reset();
  ASSERT_TRUE(host.Await([&] { return host.closed_; }));
  EXPECT_TRUE(host.stdin_closed_);
  EXPECT_FALSE(host.replaced_);
}

TEST_F(StdioTest, ClosedEndsAreTold) {
  FakeHost host(*stdio_);
  stdio_->Attach(&host);
  in_.Reset();
  EXPECT_TRUE(host.Await([&] { return host.stdin_closed_; }));
  stdio_->Input(&host, {"", false, {}, {true, false}});
  const std::string_view byte = "x";
  EXPECT_EQ(sys::Write(out_.get(), std::as_bytes(std::span(byte))).error().errnum(), EPIPE);
  FakeHost other(*stdio_);
  stdio_->Attach(&other);
  EXPECT_TRUE(host.replaced_);
  stdio_->Detach(&other);
}

TEST_F(StdioTest, RefusesStdinWithoutCredit) {
  FakeHost host(*stdio_);
  stdio_->Attach(&host);
  ASSERT_TRUE(host.Await([&] { return host.credit_ == Stdio::kStdinWindow; }));
  EXPECT_TRUE(stdio_->Input(&host, {std::string(Stdio::kStdinWindow, 'x'), false, {}, {}}));
  // Nobody has read a byte of it: that many more were given as the pipe holds, and no more.
  const auto refused = stdio_->Input(&host, {std::string(Stdio::kStdinWindow, 'x'), false, {}, {}});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kResourceExhausted);
  stdio_->Detach(&host);
}

TEST_F(StdioTest, StdinIsWholeWhenItsBufferNeverEmpties) {
  FakeHost host(*stdio_);
  stdio_->Attach(&host);
  std::string sent;
  std::string received;
  std::array<std::byte, 4096> buffer{};
  for (char c = 'a'; c <= 'z'; ++c) {
    ASSERT_TRUE(host.Await([&] { return host.credit_ - sent.size() >= 30'000; }));
    sent += std::string(30'000, c);
    ASSERT_TRUE(stdio_->Input(&host, {std::string(30'000, c), false, {}, {}}));
    while (sent.size() - received.size() > 200'000) {
      const size_t count = *sys::Read(in_.get(), buffer);
      received.append(reinterpret_cast<const char*>(buffer.data()), count);
    }
  }
  ASSERT_TRUE(stdio_->Input(&host, {"", true, {}, {}}));
  received += *sys::ReadFd(in_.get(), 1U << 20U, "stdin");
  EXPECT_TRUE(received == sent);
  stdio_->Detach(&host);
}

TEST_F(StdioTest, GathersSmallPieces) {
  FakeHost host(*stdio_);
  stdio_->Attach(&host);
  stdio_->Input(&host, Credit(1U << 20U, 0));
  std::string sent;
  for (int i = 0; i < 200; ++i) {
    const std::string piece(100, static_cast<char>('a' + i % 26));
    ASSERT_TRUE(sys::WriteAll(out_.get(), piece));
    sent += piece;
  }
  out_.Reset();
  ASSERT_TRUE(host.Await([&] { return host.eof_[1]; }));
  EXPECT_EQ(host.data_[1], sent);
  // The first at once, the rest as time goes by: each in a message of its own would be 200.
  EXPECT_LT(host.messages_[1], 50);
  stdio_->Detach(&host);
}

TEST_F(StdioTest, AChunkHasABound) {
  ::fcntl(out_.get(), F_SETPIPE_SZ, 1 << 20);
  ASSERT_TRUE(sys::SetNonblocking(out_.get(), true));
  std::string much(1U << 20U, 'x');
  const auto written = sys::Write(out_.get(), std::as_bytes(std::span(much)));
  ASSERT_TRUE(written);
  out_.Reset();
  FakeHost host(*stdio_);
  stdio_->Attach(&host);
  stdio_->Input(&host, Credit(2U << 20U, 0));
  ASSERT_TRUE(host.Await([&] { return host.eof_[1]; }));
  EXPECT_EQ(host.data_[1].size(), *written);
  EXPECT_LE(host.longest_, Stdio::kChunk);
  stdio_->Detach(&host);
}

TEST_F(StdioTest, TheEndThatCameWithDataIsToldOnce) {
  ASSERT_TRUE(sys::WriteAll(out_.get(), "last words"));
  out_.Reset();
  FakeHost broken(*stdio_, true);
  stdio_->Attach(&broken);
  stdio_->Input(&broken, Credit(100, 100));
  stdio_->Detach(&broken);
  FakeHost host(*stdio_);
  stdio_->Attach(&host);
  stdio_->Input(&host, Credit(100, 100));
  ASSERT_TRUE(host.Await([&] { return host.eof_[1]; }));
  err_.Reset();
  ASSERT_TRUE(host.Await([&] { return host.eof_[2]; }));
  EXPECT_EQ(host.data_[1], "last words");
  EXPECT_EQ(host.ends_[1], 1);
  stdio_->Detach(&host);
}

}  // namespace
}  // namespace bulkhead::agent

int main(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_IGN);
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
