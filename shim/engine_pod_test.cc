#include "shim/engine_pod.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/child.h"
#include "base/sys.h"
#include "base/temp_dir.h"

namespace bulkhead::shim {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

class EnginePodTest : public ::testing::Test {
 protected:
  void SetUp() override {
    state_.emplace(TempDir::Create("/tmp/engine-pod-").value());
    config_.state_dir = state_->path();
    pod_.emplace(config_, "/run/c.sock", "default", "a", state_->path() + "/s");
    ASSERT_TRUE(sys::MkdirAll(pod_->folder, 0700));
    ASSERT_TRUE(sys::WriteFile(pod_->lock(), ""));
  }
  std::optional<TempDir> state_;
  Config config_;
  std::optional<EnginePod> pod_;
};

TEST_F(EnginePodTest, PodsOfOtherEnginesNamespacesAndNamesAreOthers) {
  const std::string s = state_->path() + "/s";
  EXPECT_NE(EnginePod(config_, "/run/d.sock", "default", "a", s).folder, pod_->folder);
  EXPECT_NE(EnginePod(config_, "/run/c.sock", "k8s.io", "a", s).folder, pod_->folder);
  EXPECT_NE(EnginePod(config_, "/run/c.sock", "default", "b", s).socket, pod_->socket);
  EXPECT_EQ(EnginePod(config_, "/run/c.sock", "default", "a", s).socket, pod_->socket);
}

TEST_F(EnginePodTest, TheBundleTellsWhereItIs) {
  ASSERT_TRUE(pod_->RecordIn(state_->path()));
  const auto found = EnginePod::OfBundle(state_->path());
  ASSERT_TRUE(found);
  EXPECT_EQ(found->folder, pod_->folder);
  EXPECT_EQ(found->socket, pod_->socket);
  EXPECT_EQ(EnginePod::OfBundle("/nonexistent").error().code(), ErrorCode::kNotFound);
  ASSERT_TRUE(sys::WriteFile(state_->path() + "/bulkhead.pod", "relative\n"));
  EXPECT_THAT(EnginePod::OfBundle(state_->path()).error().message(), HasSubstr("damaged"));
}

TEST_F(EnginePodTest, OneHolderOfTheLock) {
  auto first = pod_->Lock(milliseconds(0));
  ASSERT_TRUE(first);
  EXPECT_EQ(pod_->Lock(milliseconds(30)).error().code(), ErrorCode::kUnavailable);
  first->Reset();
  EXPECT_TRUE(pod_->Lock(milliseconds(0)));
  ASSERT_TRUE(pod_->Remove());
  EXPECT_EQ(pod_->Lock(milliseconds(0)).error().code(), ErrorCode::kNotFound);
}

TEST_F(EnginePodTest, KillsTheRecordedDaemonAndNoOther) {
  Child daemon = Child::Spawn({{"/bin/sleep", "100"}, {}, {}, {}}).value();
  ASSERT_TRUE(pod_->RecordDaemon(daemon.pid()));
  ASSERT_TRUE(pod_->KillDaemon());
  EXPECT_EQ((*daemon.Wait(milliseconds(10000)))->signal, 9);

  Child other = Child::Spawn({{"/bin/sleep", "100"}, {}, {}, {}}).value();
  ASSERT_TRUE(sys::WriteFile(pod_->lock(), fmt::format("{} 12345\n", other.pid())));
  EXPECT_THAT(pod_->KillDaemon().error().message(), HasSubstr("another"));
  ASSERT_TRUE(sys::WriteFile(pod_->lock(), "nonsense\n"));
  EXPECT_FALSE(pod_->KillDaemon());
}

TEST_F(EnginePodTest, IsFoundByItsDaemon) {
  const auto find = [&](const char* engine, const char* name, pid_t pid) {
    return EnginePod::OfDaemon(config_, engine, name, pid);
  };
  EXPECT_FALSE(find("/run/c.sock", "default", ::getpid()));
  ASSERT_TRUE(pod_->RecordDaemon(::getpid()));
  const auto found = find("/run/c.sock", "default", ::getpid());
  ASSERT_TRUE(found);
  EXPECT_EQ(found->folder, pod_->folder);
  EXPECT_EQ(found->socket, pod_->socket);
  EXPECT_FALSE(find("/run/c.sock", "k8s.io", ::getpid()));
  EXPECT_FALSE(find("/run/d.sock", "default", ::getpid()));
  EXPECT_FALSE(find("/run/c.sock", "default", ::getppid()));
  EXPECT_EQ(*ParentOf(::getpid()), ::getppid());
}

}  // namespace
}  // namespace bulkhead::shim
