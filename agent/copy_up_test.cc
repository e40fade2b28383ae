#include "agent/copy_up.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/sys.h"
#include "base/temp_dir.h"

namespace bulkhead::agent {
namespace {

class CopyUpTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) {
      GTEST_SKIP() << "owners and devices need root";
    }
    auto made = TempDir::Create("/tmp/copy_up_test-");
    ASSERT_TRUE(made);
    folder_.emplace(std::move(*made));
    from_ = folder_->path() + "/from";
    to_ = folder_->path() + "/to";
    ASSERT_TRUE(sys::Mkdir(from_));
    ASSERT_TRUE(sys::Mkdir(to_));
  }
  Status Run(bool own = true) const {
    const UniqueFd from = TRY(sys::Open(from_, O_PATH | O_DIRECTORY));
    const UniqueFd to = TRY(sys::Open(to_, O_PATH | O_DIRECTORY));
    return CopyUp(from.get(), to.get(), own);
  }
  struct stat Of(const std::string& name) const {
    const auto info = sys::LStat(to_ + "/" + name);
    EXPECT_TRUE(info) << name;
    return info.value_or(({
      struct stat none {};
      none;
    }));
  }

  std::optional<TempDir> folder_;
  std::string from_;
  std::string to_;
};

TEST_F(CopyUpTest, KeepsOwnersModesAttributesAndTimes) {
  ASSERT_TRUE(sys::Mkdir(from_ + "/d"));
  ASSERT_TRUE(sys::WriteFile(from_ + "/d/file", std::string(3'000'000, 'x')));
  ASSERT_TRUE(sys::Chown(from_ + "/d/file", 1000, 29));
  ASSERT_TRUE(sys::Chmod(from_ + "/d/file", 06711));
  ASSERT_TRUE(sys::LSetXattr(from_ + "/d/file", "trusted.word", "value"));
  ASSERT_TRUE(sys::Chown(from_ + "/d", 7, 8));
  ASSERT_TRUE(sys::Chmod(from_ + "/d", 01770));
  const UniqueFd from = *sys::Open(from_, O_RDONLY | O_DIRECTORY);
  ASSERT_TRUE(sys::SetTimesAt(from.get(), "d", {1234, 5678}));
  ASSERT_TRUE(sys::Chown(from_, 5, 6));
  const Status status = Run();
  ASSERT_TRUE(status) << status.error().message();
  EXPECT_EQ(Of("d/file").st_uid, 1000U);
  EXPECT_EQ(Of("d/file").st_gid, 29U);
  EXPECT_EQ(Of("d/file").st_mode, S_IFREG | 06711U);
  EXPECT_EQ(sys::ReadFile(to_ + "/d/file")->size(), 3'000'000U);
  EXPECT_EQ(**sys::LGetXattr(to_ + "/d/file", "trusted.word"), "value");
  EXPECT_EQ(Of("d").st_uid, 7U);
  EXPECT_EQ(Of("d").st_mode, S_IFDIR | 01770U);
  EXPECT_EQ(Of("d").st_mtim.tv_sec, 1234);
  EXPECT_EQ(Of("d").st_mtim.tv_nsec, 5678);
  EXPECT_EQ(Of(".").st_uid, 5U);
}

TEST_F(CopyUpTest, LeavesTheOwnerOfTheFolderItselfWhenAsked) {
  ASSERT_TRUE(sys::Chown(from_, 5, 6));
  ASSERT_TRUE(Run(false));
  EXPECT_EQ(Of(".").st_uid, 0U);
}

TEST_F(CopyUpTest, KeepsSpecialFilesAndHardLinks) {
  ASSERT_TRUE(sys::Mknod(from_ + "/null", S_IFCHR | 0622, ::makedev(1, 3)));
  ASSERT_TRUE(sys::Chmod(from_ + "/null", 0622));  // whatever the umask is
  ASSERT_TRUE(sys::Mkfifo(from_ + "/pipe", 0640));
  ASSERT_TRUE(sys::Mknod(from_ + "/socket", S_IFSOCK | 0600, 0));
  ASSERT_TRUE(sys::Mkdir(from_ + "/a"));
  ASSERT_TRUE(sys::WriteFile(from_ + "/a/one", "words"));
  const UniqueFd from = *sys::Open(from_, O_RDONLY | O_DIRECTORY);
  ASSERT_TRUE(sys::LinkAt(from.get(), "a/one", from.get(), "two"));
  const Status status = Run();
  ASSERT_TRUE(status) << status.error().message();
  EXPECT_TRUE(S_ISCHR(Of("null").st_mode));
  EXPECT_EQ(Of("null").st_rdev, ::makedev(1, 3));
  EXPECT_EQ(Of("null").st_mode & 0777U, 0622U);
  EXPECT_TRUE(S_ISFIFO(Of("pipe").st_mode));
  EXPECT_TRUE(S_ISSOCK(Of("socket").st_mode));
  EXPECT_EQ(Of("a/one").st_ino, Of("two").st_ino);
  EXPECT_EQ(*sys::ReadFile(to_ + "/two"), "words");
}

TEST_F(CopyUpTest, FollowsNoLink) {
  const std::string outside = folder_->path() + "/outside";
  ASSERT_TRUE(sys::Mkdir(outside));
  ASSERT_TRUE(sys::WriteFile(outside + "/secret", "s", 0600));
  ASSERT_TRUE(sys::Symlink(outside, from_ + "/folder"));
  ASSERT_TRUE(sys::Symlink(outside + "/secret", from_ + "/file"));
  ASSERT_TRUE(sys::Symlink("nowhere", from_ + "/dangling"));
  const UniqueFd from = *sys::Open(from_, O_RDONLY | O_DIRECTORY);
  ASSERT_TRUE(sys::ChownAt(from.get(), "file", 1000, 1000));
  const Status status = Run();
  ASSERT_TRUE(status) << status.error().message();
  EXPECT_EQ(*sys::ReadLink(to_ + "/folder"), outside);
  EXPECT_EQ(*sys::ReadLink(to_ + "/file"), outside + "/secret");
  EXPECT_EQ(*sys::ReadLink(to_ + "/dangling"), "nowhere");
  EXPECT_EQ(Of("file").st_uid, 1000U);
  EXPECT_EQ(sys::Stat(outside + "/secret")->st_uid, 0U);
  EXPECT_EQ(sys::Stat(outside + "/secret")->st_mode & 0777U, 0600U);
}

TEST_F(CopyUpTest, IsBounded) {
  std::string path = from_;
  for (int depth = 0; depth < 600; ++depth) {
    path += "/d";
    ASSERT_TRUE(sys::Mkdir(path));
  }
  const Status status = Run();
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().message().find("512"), std::string::npos);
}

}  // namespace
}  // namespace bulkhead::agent
