#include "base/rooted_path.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include "base/sys.h"

namespace bulkhead {
namespace {

class RootedPath : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/rooted-XXXXXX";
    dir_ = ::mkdtemp(name);
    ASSERT_TRUE(sys::MkdirAll(dir_ + "/root/a"));
    root_ = std::move(*sys::Open(dir_ + "/root", O_PATH | O_DIRECTORY));
  }
  void TearDown() override { static_cast<void>(sys::RemoveAll(dir_)); }

  std::string dir_;
  UniqueFd root_;
};

TEST_F(RootedPath, MakesWhatIsMissing) {
  EXPECT_TRUE(EnsureInRoot(root_.get(), "/a/b//c/./d/", NodeKind::kDirectory));
  EXPECT_TRUE(EnsureInRoot(root_.get(), "a/f", NodeKind::kFile));
  EXPECT_TRUE(EnsureInRoot(root_.get(), "/", NodeKind::kDirectory));
  EXPECT_TRUE(sys::IsDirectory(dir_ + "/root/a/b/c/d"));
  EXPECT_TRUE(sys::Exists(dir_ + "/root/a/f"));
  EXPECT_FALSE(EnsureInRoot(root_.get(), "/a/f/x", NodeKind::kFile));
}

TEST_F(RootedPath, NothingLeadsOut) {
  ASSERT_TRUE(sys::Symlink("../../../..", dir_ + "/root/up"));
  ASSERT_TRUE(sys::Symlink("/tmp", dir_ + "/root/absolute"));
  ASSERT_TRUE(sys::Symlink("../../gone/file", dir_ + "/root/a/dangling"));
  ASSERT_TRUE(sys::Symlink("loop", dir_ + "/root/loop"));
  EXPECT_TRUE(EnsureInRoot(root_.get(), "/up/x", NodeKind::kFile));
  EXPECT_TRUE(EnsureInRoot(root_.get(), "/absolute/y", NodeKind::kFile));
  EXPECT_TRUE(EnsureInRoot(root_.get(), "/a/dangling", NodeKind::kFile));
  EXPECT_TRUE(EnsureInRoot(root_.get(), "/../../../../z", NodeKind::kFile));
  EXPECT_TRUE(sys::Exists(dir_ + "/root/x"));
  EXPECT_TRUE(sys::Exists(dir_ + "/root/tmp/y"));
  EXPECT_TRUE(sys::Exists(dir_ + "/root/gone/file"));
  EXPECT_TRUE(sys::Exists(dir_ + "/root/z"));
  EXPECT_FALSE(EnsureInRoot(root_.get(), "/loop", NodeKind::kFile));
}

TEST_F(RootedPath, Splits) {
  EXPECT_EQ(Split("/dev//net/./tun").parent, "/dev/net");
  EXPECT_EQ(Split("dev/x/").name, "x");
  EXPECT_EQ(Split("/x").parent, "/");
}

}  // namespace
}  // namespace bulkhead
