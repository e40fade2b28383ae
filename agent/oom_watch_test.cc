#include "agent/oom_watch.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <vector>

#include "base/sys.h"
#include "base/temp_dir.h"

namespace bulkhead::agent {
namespace {

// An ordinary folder in the place of a cgroup: inotify tells of both alike.
class OomWatchTest : public ::testing::Test {
 protected:
  OomWatchTest()
      : dir_(std::move(*TempDir::Create("/tmp/oom-watch-"))), loop_(std::move(*IoLoop::Create())) {
    watch_ = std::move(*OomWatch::Create(*loop_, [this](const std::string& id) {
      const std::scoped_lock lock(mutex_);
      told_.push_back(id);
      changed_.notify_all();
    }));
  }
  std::string MakeCgroup(const std::string& name) {
    const std::string path = dir_.path() + "/" + name;
    EXPECT_TRUE(sys::Mkdir(path));
    SetKills(path, 0);
    return path;
  }
  static void SetKills(const std::string& path, int kills) {
    EXPECT_TRUE(
        sys::WriteFile(path + "/memory.events", fmt::format("oom 7\noom_kill {}\n", kills)));
  }
  bool AwaitTold(const std::vector<std::string>& ids) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(5), [&] { return told_ == ids; });
  }

  TempDir dir_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> told_;
  std::unique_ptr<IoLoop> loop_;
  std::shared_ptr<OomWatch> watch_;
};

TEST_F(OomWatchTest, TellsEachRiseOnce) {
  const std::string a = MakeCgroup("a");
  const std::string b = MakeCgroup("b");
  const auto key_a = watch_->Watch("a", a);
  const auto key_b = watch_->Watch("b", b);
  SetKills(a, 0);  // a change that is none
  SetKills(b, 2);
  ASSERT_TRUE(AwaitTold({"b"}));
  watch_->Check(key_b);
  watch_->Check(key_a);
  watch_->Check(0);
  EXPECT_TRUE(AwaitTold({"b"}));
  SetKills(a, 1);
  watch_->Check(key_a);  // whichever comes first
  ASSERT_TRUE(AwaitTold({"b", "a"}));
}

TEST_F(OomWatchTest, ForgetsAndStartsAfresh) {
  const std::string a = MakeCgroup("a");
  const std::string b = MakeCgroup("b");
  const auto old = watch_->Watch("a", a);
  watch_->Watch("b", b);
  watch_->Forget(old);
  SetKills(a, 5);
  SetKills(b, 1);
  ASSERT_TRUE(AwaitTold({"b"}));
  const auto key = watch_->Watch("a", a);  // what was before does not count
  watch_->Forget(old);                     // nor does this touch its successor
  watch_->Check(key);
  EXPECT_TRUE(AwaitTold({"b"}));
  SetKills(a, 6);
  ASSERT_TRUE(AwaitTold({"b", "a"}));
  const auto none = watch_->Watch("none", dir_.path() + "/none");
  watch_->Check(none);
  watch_->Forget(none);
}

}  // namespace
}  // namespace bulkhead::agent
