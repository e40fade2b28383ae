#include "shim/stand_in.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <condition_variable>

#include "base/sys.h"
#include "base/temp_dir.h"

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
  void Start(const std::string& bundle = "") {
    ASSERT_FALSE(g_is_stand_in);
    sys::SocketPair channel = *sys::MakeSocketPair(SOCK_SEQPACKET);
    StandInSpec spec;
    spec.program = *sys::ReadLink("/proc/self/exe");
    spec.title = {"sleep", "1000"};
    spec.bundle = bundle;
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

// A bundle whose image has links that would lead out of it.
class StandInWithFiles : public StandInTest {
 protected:
  void SetUp() override {
    for (const char* name : {"/rootfs/etc", "/rootfs/proc", "/volume", "/outside"}) {
      ASSERT_TRUE(sys::MkdirAll(folder_.path() + name));
    }
    ASSERT_TRUE(sys::WriteFile(folder_.path() + "/rootfs/etc/passwd", "of the image"));
    ASSERT_TRUE(sys::WriteFile(folder_.path() + "/volume/file", "of the volume"));
    ASSERT_EQ(
        ::symlink((folder_.path() + "/outside").c_str(), (folder_.path() + "/rootfs/link").c_str()),
        0);
  }
  void StartWith(const std::string& mounts) {
    ASSERT_TRUE(sys::WriteFile(
        folder_.path() + "/config.json",
        fmt::format(R"({{"ociVersion":"1.0.2","root":{{"path":"rootfs"}},"mounts":[{}]}})",
                    mounts)));
    Start(folder_.path());
  }
  std::string Root() const { return fmt::format("/proc/{}/root", child_->pid()); }

  TempDir folder_ = *TempDir::Create("/tmp/stand-in-");
};

TEST_F(StandInWithFiles, ShowsThoseOfItsContainer) {
  StartWith(R"({"destination":"/proc","type":"proc","source":"proc"},
               {"destination":"/new/volume","type":"bind","source":"volume","options":["rbind"]},
               {"destination":"/etc/one","type":"bind","source":"volume/file","options":["ro"]},
               {"destination":"/run","type":"tmpfs","source":"tmpfs"},
               {"destination":"/run/below","type":"bind","source":"volume","options":["bind"]})");
  EXPECT_EQ(*sys::ReadFile(Root() + "/etc/passwd"), "of the image");
  EXPECT_EQ(*sys::ReadFile(Root() + "/new/volume/file"), "of the volume");
  EXPECT_EQ(*sys::ReadFile(Root() + "/etc/one"), "of the volume");
  EXPECT_EQ(*sys::ReadFile(Root() + "/run/below/file"), "of the volume");
  EXPECT_EQ(*sys::ReadFile(Root() + "/proc/1/comm"), std::string(kStandInComm) + "\n");
  EXPECT_TRUE(sys::WriteFile(Root() + "/new/volume/made", ""));
  EXPECT_TRUE(sys::WriteFile(Root() + "/etc/made", ""));
  EXPECT_EQ(sys::WriteFile(Root() + "/etc/one", "").error().errnum(), EROFS);
  EXPECT_EQ(sys::WriteFile(Root() + "/run/made", "").error().errnum(), EROFS);
}

TEST_F(StandInWithFiles, LinksOfTheImageDoNotLeadOut) {
  StartWith(R"({"destination":"/link/volume","type":"bind","source":"volume"})");
  EXPECT_TRUE(sys::ListDirectory(folder_.path() + "/outside")->empty());
  EXPECT_EQ(*sys::ReadFile(Root() + folder_.path() + "/outside/volume/file"), "of the volume");
}

// A file system of the host's own, which the image or a later mount puts in the place of ours.
class StandInWithATrap : public StandInWithFiles {
 protected:
  void SetUp() override {
    StandInWithFiles::SetUp();
    ASSERT_TRUE(sys::Mount("trap", folder_.path() + "/volume", "tmpfs", 0, "size=64k"));
  }
  void TearDown() override {
    child_.reset();
    EXPECT_TRUE(sys::WriteFile(folder_.path() + "/volume/still-writable", ""));
    EXPECT_TRUE(sys::Unmount(folder_.path() + "/volume", MNT_DETACH));
  }
};

TEST_F(StandInWithATrap, AMountOverOursStaysAsItIs) {
  StartWith(R"({"destination":"/sys/fs/cgroup","type":"tmpfs","source":"tmpfs"},
               {"destination":"/sys/fs","type":"bind","source":"volume","options":["rbind"]},
               {"destination":"/run","type":"tmpfs","source":"tmpfs"},
               {"destination":"/run","type":"bind","source":"volume","options":["rbind"]})");
  EXPECT_TRUE(sys::WriteFile(Root() + "/run/made", ""));
}

TEST_F(StandInWithATrap, ALinkOfTheImageMovesNothing) {
  ASSERT_TRUE(sys::Rmdir(folder_.path() + "/rootfs/proc"));
  ASSERT_EQ(::symlink("/data", (folder_.path() + "/rootfs/proc").c_str()), 0);
  StartWith(R"({"destination":"/proc","type":"proc","source":"proc"},
               {"destination":"/data","type":"bind","source":"volume","options":["rbind"]})");
  EXPECT_TRUE(sys::WriteFile(Root() + "/data/made", ""));
}

TEST_F(StandInWithFiles, ShowsNothingOfABundleThatIsWrong) {
  StartWith(R"({"destination":"/volume","type":"bind","source":"missing"})");
  EXPECT_EQ(*sys::ListDirectory(Root()), std::vector<std::string>{"proc"});
}

}  // namespace
}  // namespace bulkhead::shim
