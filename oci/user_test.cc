#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sys.h"
#include "base/temp_dir.h"
#include "oci/image_user.h"

namespace bulkhead::oci {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kPasswd =
    "root:x:0:0:root:/root:/bin/sh\n"
    "# a comment\n"
    "broken line\n"
    "bad:x:abc:1::/:\n"
    "daemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
    "app:x:1000:1001:App,,,:/home/app:/bin/sh\n"
    "123:x:50:51::/numeric:/bin/sh\n"
    "nohome:x:60:61\n";
constexpr const char* kGroup =
    "root:x:0:\n"
    "wheel:x:10:root,app\n"
    "app:x:1001:app\n"
    "video:x:44:other,app\n"
    "staff:x:50\n";

Result<ResolvedUser> Resolve(const std::string& spec, const std::vector<std::string>& extra = {}) {
  return ResolveUserFrom(spec, kPasswd, kGroup, extra);
}

std::string ErrorOf(const std::string& spec, const std::vector<std::string>& extra = {}) {
  const auto result = Resolve(spec, extra);
  return result ? "no error" : result.error().message();
}

struct Case {
  std::string spec;
  uint32_t uid;
  uint32_t gid;
  std::string name;
  std::string home;
  std::vector<uint32_t> gids;
};

TEST(UserTest, TableOfSpecs) {
  const std::vector<Case> cases = {
      {"", 0, 0, "root", "/root", {0, 10}},
      {"root", 0, 0, "root", "/root", {0, 10}},
      {"0", 0, 0, "root", "/root", {0, 10}},
      {"app", 1000, 1001, "app", "/home/app", {1001, 10, 44}},
      {"1000", 1000, 1001, "app", "/home/app", {1001, 10, 44}},
      {"app:wheel", 1000, 10, "app", "/home/app", {10}},
      {"app:99", 1000, 99, "app", "/home/app", {99}},
      {"app:", 1000, 1001, "app", "/home/app", {1001, 10, 44}},
      {":video", 0, 44, "root", "/root", {44}},
      {"4242", 4242, 0, "", "/", {0}},
      {"4242:4343", 4242, 4343, "", "/", {4343}},
      {"123", 50, 51, "123", "/numeric", {51}},  // a name before a number
      {"nohome", 60, 61, "nohome", "/", {61}},
      {"2147483647", 2147483647, 0, "", "/", {0}},
  };
  for (const Case& expected : cases) {
    const auto actual = Resolve(expected.spec);
    ASSERT_TRUE(actual) << expected.spec << ": " << actual.error().message();
    EXPECT_EQ(actual->user.uid, expected.uid) << expected.spec;
    EXPECT_EQ(actual->user.gid, expected.gid) << expected.spec;
    EXPECT_EQ(actual->name, expected.name) << expected.spec;
    EXPECT_EQ(actual->home, expected.home) << expected.spec;
    EXPECT_EQ(actual->user.additional_gids, expected.gids) << expected.spec;
  }
}

TEST(UserTest, Errors) {
  EXPECT_EQ(ErrorOf("foo"), "unable to find user foo: no matching entries in passwd file");
  EXPECT_EQ(ErrorOf("app:foo"), "unable to find group foo: no matching entries in group file");
  EXPECT_EQ(ErrorOf("bad"), "unable to find user bad: no matching entries in passwd file");
  EXPECT_EQ(ErrorOf("-1"), "unable to find user -1: no matching entries in passwd file");
  EXPECT_THAT(ErrorOf("2147483648"), HasSubstr("out of range"));
  EXPECT_THAT(ErrorOf("1:4294967296"), HasSubstr("out of range"));
  EXPECT_EQ(ErrorOf("app", {"none"}),
            "unable to find group none: no matching entries in group file");
}

TEST(UserTest, ExtraGroups) {
  EXPECT_THAT(Resolve("app", {"staff", "7", "wheel"})->user.additional_gids,
              ElementsAre(1001, 10, 44, 50, 7));
}

TEST(UserTest, NoFilesAtAll) {
  EXPECT_EQ(ResolveUserFrom("", "", "")->user.uid, 0U);
  EXPECT_EQ(ResolveUserFrom("", "", "")->home, "/");
  EXPECT_FALSE(ResolveUserFrom("app", "", ""));
}

class UserLayersTest : public testing::Test {
 protected:
  std::string Layer(const std::string& name) {
    const std::string path = folder_.path() + "/" + name;
    (void)sys::MkdirAll(path + "/etc");
    return path;
  }
  static void Write(const std::string& path, const std::string& content) {
    ASSERT_TRUE(sys::WriteFile(path, content));
  }
  const TempDir folder_ = *TempDir::Create("/tmp/user_test-");
};

TEST_F(UserLayersTest, TheTopmostFileWins) {
  const std::string low = Layer("low");
  const std::string high = Layer("high");
  Write(low + "/etc/passwd", "app:x:1:1::/low:\n");
  Write(low + "/etc/group", "g:x:9:app\n");
  Write(high + "/etc/passwd", "app:x:2:2::/high:\n");
  const auto user = ResolveUser("app", {low, high});
  ASSERT_TRUE(user);
  EXPECT_EQ(user->user.uid, 2U);
  EXPECT_THAT(user->user.additional_gids, ElementsAre(2, 9));
}

TEST_F(UserLayersTest, WhiteoutsAndOpaqueDirectoriesHide) {
  if (::geteuid() != 0) {
    GTEST_SKIP() << "needs root: devices and trusted attributes";
  }
  const std::string low = Layer("low");
  const std::string high = Layer("high");
  Write(low + "/etc/passwd", "app:x:1:1::/low:\n");
  EXPECT_TRUE(ResolveUser("app", {low, high}));
  ASSERT_TRUE(sys::Mknod(high + "/etc/passwd", S_IFCHR, 0));
  EXPECT_FALSE(ResolveUser("app", {low, high}));
  ASSERT_TRUE(sys::Unlink(high + "/etc/passwd"));
  ASSERT_TRUE(sys::LSetXattr(high + "/etc", "trusted.overlay.opaque", "y"));
  EXPECT_FALSE(ResolveUser("app", {low, high}));
}

TEST_F(UserLayersTest, AFileInPlaceOfTheFolderHides) {
  const std::string low = Layer("low");
  const std::string high = folder_.path() + "/high";
  Write(low + "/etc/passwd", "app:x:1:1::/low:\n");
  ASSERT_TRUE(sys::Mkdir(high));
  Write(high + "/etc", "");
  EXPECT_FALSE(ResolveUser("app", {low, high}));
}

TEST_F(UserLayersTest, LinksStayInTheTree) {
  const std::string low = Layer("low");
  const std::string high = Layer("high");
  // From the upper layer through an absolute link to a file of the lower one.
  ASSERT_TRUE(sys::MkdirAll(low + "/usr/lib"));
  Write(low + "/usr/lib/passwd", "app:x:5:5::/:\n");
  ASSERT_TRUE(sys::Symlink("/usr/lib/passwd", high + "/etc/passwd"));
  EXPECT_EQ(ResolveUser("app", {low, high})->user.uid, 5U);
  ASSERT_TRUE(sys::Unlink(high + "/etc/passwd"));
  ASSERT_TRUE(sys::Symlink("../../../../usr/./lib/../lib/passwd", high + "/etc/passwd"));
  EXPECT_EQ(ResolveUser("app", {low, high})->user.uid, 5U);
  // A file of the host is not in the tree.
  Write(folder_.path() + "/secret", "app:x:6:6::/:\n");
  ASSERT_TRUE(sys::Unlink(high + "/etc/passwd"));
  ASSERT_TRUE(sys::Symlink("../../secret", high + "/etc/passwd"));
  EXPECT_FALSE(ResolveUser("app", {low, high}));
  ASSERT_TRUE(sys::Unlink(high + "/etc/passwd"));
  ASSERT_TRUE(sys::Symlink("passwd", high + "/etc/passwd"));
  EXPECT_THAT(ResolveUser("app", {low, high}).error().message(),
              HasSubstr("Too many levels of symbolic links"));
}

TEST_F(UserLayersTest, OddFiles) {
  const std::string low = Layer("low");
  ASSERT_TRUE(sys::Mkfifo(low + "/etc/passwd", 0600));  // must not hang
  EXPECT_EQ(ResolveUser("", {low})->user.uid, 0U);
  ASSERT_TRUE(sys::Unlink(low + "/etc/passwd"));
  Write(low + "/etc/passwd", std::string(5U << 20U, 'x'));
  EXPECT_THAT(ResolveUser("", {low}).error().message(), HasSubstr("longer than the limit"));
}

}  // namespace
}  // namespace bulkhead::oci
