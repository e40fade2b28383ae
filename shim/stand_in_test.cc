#include "shim/stand_in.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <condition_variable>

#include "base/sys.h"

namespace bulkhead::shim {
namespace {

using std::chrono::seconds;

constexpr seconds kPatience(60);

// The stand-in's process is this very program: see main() below, in front of the tests' own.
const bool g_is_stand_in = [] {
  if (const char* words = std::getenv(kStandInVariable)) {
    ::_exit(StandInMain(words));
  }
  return false;
}();

class StandInTest : public testing::Test {
 protected:
  void Start() {
    ASSERT_FALSE(g_is_stand_in);
    sys::SocketPair channel = *sys::MakeSocketPair(SOCK_SEQPACKET);
    StandInSpec spec;
    spec.program = *sys::ReadLink("/proc/self/exe");
    spec.title = {"sleep", "1000"};
    spec.channel = channel.second.get();
    auto child =
        SpawnStandIn(spec, [](const SpawnOptions& options) { return Child::Spawn(options); });
    ASSERT_TRUE(child) << child.error().message();
    child_.emplace(std::move(*child));
    channel_ = std::move(channel.first);
  }
  void Adopt() {
    StandIn::Link link{child_->pid(), *sys::PidfdOpen(child_->pid()), std::move(channel_)};
    StandIn::Events events;
    events.on_end = [this] { Note([this] { ended_ = true; }); };
    events.on_signal = [this](int number) { Note([&] { signal_ = number; }); };
    stand_in_ = *StandIn::Adopt(std::move(link), std::move(events));
  }
  void Note(const std::function<void()>& change) {
    const std::lock_guard lock(mutex_);
    change();
    changed_.notify_all();
  }
  bool Eventually(const std::function<bool()>& condition) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, condition);
  }
  sys::Exit End() { return (*child_->Wait(kPatience)).value(); }

  std::optional<Child> child_;
  UniqueFd channel_;
  std::unique_ptr<StandIn> stand_in_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ended_ = false;
  int signal_ = 0;
};

TEST_F(StandInTest, EndsWithTheExitCodeThatItIsTold) {
  Start();
  Adopt();
  stand_in_->TellExit(7, 0);
  EXPECT_EQ(End().code, 7);
  EXPECT_TRUE(Eventually([this] { return ended_; }));
}

TEST_F(StandInTest, EndsByTheSignalThatItIsTold) {
  for (const int number : {SIGKILL, SIGTERM, SIGSEGV}) {
    Start();
    Adopt();
    stand_in_->TellExit(128 + number, number);
    EXPECT_EQ(End().signal, number);
    stand_in_.reset();
  }
}

TEST_F(StandInTest, TellsTheSignalsThatItGets) {
  Start();
  Adopt();
  for (const int number : {SIGTERM, SIGHUP, SIGUSR1, SIGRTMIN + 3}) {
    ASSERT_TRUE(sys::Kill(child_->pid(), number));
    EXPECT_TRUE(Eventually([&] { return signal_ == number; })) << number;
  }
  EXPECT_FALSE(stand_in_->Ended());
}

TEST_F(StandInTest, DiesWithTheDaemon) {
  Start();
  channel_.Reset();
  EXPECT_EQ(End().signal, SIGKILL);
}

TEST_F(StandInTest, ItsKillIsNoticed) {
  Start();
  Adopt();
  ASSERT_TRUE(sys::Kill(child_->pid(), SIGKILL));
  EXPECT_TRUE(Eventually([this] { return ended_; }));
  EXPECT_TRUE(stand_in_->Ended());
}

TEST_F(StandInTest, ShowsItsTitleAndHoldsNothing) {
  Start();
  const std::string proc = fmt::format("/proc/{}", child_->pid());
  EXPECT_EQ(*sys::ReadFile(proc + "/cmdline"), std::string("sleep\0"
                                                           "1000\0",
                                                           11));
  EXPECT_EQ(*sys::ReadFile(proc + "/comm"), std::string(kStandInComm) + "\n");
  EXPECT_EQ(*sys::ReadLink(proc + "/cwd"), "/");
  EXPECT_EQ(*sys::ListDirectory(proc + "/root"), std::vector<std::string>{"proc"});
  EXPECT_EQ(*sys::ReadFile(proc + "/root/proc/1/comm"), std::string(kStandInComm) + "\n");
  EXPECT_NE(sys::ReadFile(proc + "/status")->find("CapEff:\t0000000000000000"), std::string::npos);
}

}  // namespace
}  // namespace bulkhead::shim
