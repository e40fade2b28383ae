#include "agent/io_loop.h"

#include <gtest/gtest.h>
#include <sys/epoll.h>

#include <condition_variable>

#include "base/sys.h"

namespace bulkhead::agent {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

class Recorder : public IoHandler {
 public:
  void OnReady(int /*tag*/, uint32_t events) override {
    const std::scoped_lock lock(mutex_);
    events_ = events;
    at_ = steady_clock::now();
    ++count_;
    changed_.notify_all();
  }
  bool AwaitCount(int count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, 5s, [&] { return count_ == count; });
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  uint32_t events_ = 0;
  steady_clock::time_point at_;
  int count_ = 0;
};

class IoLoopTest : public ::testing::Test {
 protected:
  IoLoopTest() : loop_(std::move(*IoLoop::Create())), pipe_(std::move(*sys::MakePipe())) {
    token_ = loop_->Add(pipe_.read.get(), recorder_, 0);
  }
  ~IoLoopTest() override { loop_->Remove(token_, pipe_.read.get()); }

  std::shared_ptr<Recorder> recorder_ = std::make_shared<Recorder>();
  std::unique_ptr<IoLoop> loop_;
  sys::Pipe pipe_;
  IoLoop::Token token_ = 0;
};

TEST_F(IoLoopTest, TellsOncePerArm) {
  ASSERT_TRUE(sys::WriteAll(pipe_.write.get(), "x"));
  loop_->Arm(token_, pipe_.read.get(), EPOLLIN);
  ASSERT_TRUE(recorder_->AwaitCount(1));
  loop_->Arm(token_, pipe_.read.get(), EPOLLIN);
  EXPECT_TRUE(recorder_->AwaitCount(2));
}

TEST_F(IoLoopTest, ArmsLater) {
  ASSERT_TRUE(sys::WriteAll(pipe_.write.get(), "x"));
  const auto begin = steady_clock::now();
  loop_->ArmLater(token_, pipe_.read.get(), EPOLLIN, 50ms);
  ASSERT_TRUE(recorder_->AwaitCount(1));
  EXPECT_GE(recorder_->at_ - begin, 50ms);
}

TEST_F(IoLoopTest, AClosedEndIsToldAtOnce) {
  loop_->ArmLater(token_, pipe_.read.get(), EPOLLIN, 1h);
  pipe_.write.Reset();
  ASSERT_TRUE(recorder_->AwaitCount(1));
  EXPECT_NE(recorder_->events_ & EPOLLHUP, 0U);
}

TEST_F(IoLoopTest, WhatIsRemovedIsNotArmed) {
  ASSERT_TRUE(sys::WriteAll(pipe_.write.get(), "x"));
  loop_->ArmLater(token_, pipe_.read.get(), EPOLLIN, 10ms);
  loop_->Remove(token_, pipe_.read.get());
  token_ = loop_->Add(pipe_.read.get(), recorder_, 0);
  loop_->ArmLater(token_, pipe_.read.get(), EPOLLIN, 30ms);
  ASSERT_TRUE(recorder_->AwaitCount(1));
}

}  // namespace
}  // namespace bulkhead::agent
