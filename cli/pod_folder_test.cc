#include "cli/pod_folder.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/sys.h"
#include "base/temp_dir.h"

namespace bulkhead::cli {
namespace {

class PodFolderTest : public testing::Test {
 protected:
  PodFolderTest() : scratch_(*TempDir::Create("/tmp/pod-test-")) {
    config_.state_dir = scratch_.path() + "/state";
    config_.data_dir = scratch_.path() + "/data";
  }
  Result<PodFolder> Create() { return PodFolder::Create(config_, "pod", scratch_.path()); }

  TempDir scratch_;
  Config config_;
};

TEST_F(PodFolderTest, IsRemovedWithItsOwner) {
  {
    const auto folder = Create();
    ASSERT_TRUE(folder) << folder.error().message();
    EXPECT_TRUE(sys::IsDirectory(folder->paths().data + "/upper"));
    EXPECT_EQ(FindPod(config_, "pod")->state, PodState::kRunning);
  }
  EXPECT_FALSE(FindPod(config_, "pod"));
  EXPECT_FALSE(sys::Exists(config_.data_dir + "/pods/pod"));
}

TEST_F(PodFolderTest, ANameIsTakenOnce) {
  const auto folder = Create();
  ASSERT_TRUE(folder);
  const auto second = Create();
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().message(), "a container named \"pod\" exists already");
  EXPECT_TRUE(sys::Exists(folder->paths().lock()));
}

TEST_F(PodFolderTest, RemainsOfACrashGiveTheNameBack) {
  {
    auto folder = Create();
    ASSERT_TRUE(folder->WriteRecord(
        {"pod", "image", {"sh"}, "T", false, false, {}, "user", {"80:8080/tcp"}}));
    folder->Release();
  }
  EXPECT_EQ(FindPod(config_, "pod")->state, PodState::kDead);
  EXPECT_EQ(FindPod(config_, "pod")->record.image, "image");
  EXPECT_TRUE(Create());
}

TEST_F(PodFolderTest, AnEndedContainerKeepsItsName) {
  {
    auto folder = Create();
    ASSERT_TRUE(sys::WriteFile(folder->paths().state + "/exit.json", R"({"exit_code":3})"));
    folder->Release();
  }
  const auto pod = FindPod(config_, "pod");
  EXPECT_EQ(pod->state, PodState::kExited);
  EXPECT_EQ(pod->exit->ShellCode(), 3);
  EXPECT_FALSE(Create());
  EXPECT_TRUE(RemovePod(pod->paths));
  EXPECT_TRUE(Create());
}

TEST_F(PodFolderTest, NoNameLeavesTheFolder) {
  for (const char* name : {"", ".", "..", "../x", "a/b"}) {
    EXPECT_FALSE(FindPod(config_, name)) << name;
  }
}

}  // namespace
}  // namespace bulkhead::cli
