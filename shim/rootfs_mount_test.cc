#include "shim/rootfs_mount.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include "shim/mount_test_util.h"

namespace bulkhead::shim {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(TakeIdMaps, OfContainerd) {
  std::vector<std::string> options{"ro", "uidmap=0:666:1000,1000:6666:64536", "gidmap=0:888:65536",
                                   "uidmapping=1"};
  const auto maps = TakeIdMaps(options).value();
  ASSERT_TRUE(maps);
  EXPECT_EQ(maps->Text(), "0 666 1000\n1000 6666 64536\n/0 888 65536\n");
  EXPECT_THAT(options, ElementsAre("ro", "uidmapping=1"));
  EXPECT_FALSE(*TakeIdMaps(options));
}

TEST(TakeIdMaps, BadOnesAreNamed) {
  for (const char* option : {"uidmap=", "uidmap=0:1", "uidmap=0:1:2:3", "gidmap=0:1:x",
                             "gidmap=0:-1:5", "uidmap=0:1:2,", "uidmap=0:1:4294967296"}) {
    std::vector<std::string> options{option};
    const auto maps = TakeIdMaps(options);
    ASSERT_FALSE(maps) << option;
    EXPECT_THAT(maps.error().message(), HasSubstr(option));
  }
  std::vector<std::string> one{"uidmap=0:1:2"};
  EXPECT_THAT(TakeIdMaps(one).error().message(), HasSubstr("one without the other"));
}

class RootfsMountTest : public MountTest {
 protected:
  void SetUp() override {
    MountTest::SetUp();
    RequireIdMaps();
  }

  static std::string Owner(const std::string& file) {
    const auto info = sys::LStat(file);
    return info ? fmt::format("{}:{}", info->st_uid, info->st_gid) : info.error().message();
  }
  // Mounts it, and finds nothing beside it.
  Status Mount(const RootfsMount& mount) const {
    const Status mounted = MountRootfs(mount, path("shared"), path("bench"));
    EXPECT_FALSE(sys::Exists(path("bench.0")) || sys::Exists(path("bench.1")));
    EXPECT_EQ(MountInfo().find(" " + path("bench")), std::string::npos);
    return mounted;
  }
};

TEST_F(RootfsMountTest, TheLowerFoldersOfAnOverlayAreMapped) {
  InNamespace([&] {
    for (const char* name : {"upper", "work"}) {
      ASSERT_TRUE(sys::Mkdir(path(name)));
    }
    ASSERT_TRUE(sys::Chown(path("image/hello"), 3, 4));
    ASSERT_TRUE(sys::Chown(path("upper"), 1000, 2000));  // as the snapshotter does
    const auto mounted =
        Mount({"overlay",
               "overlay",
               {"workdir=" + path("work"), "upperdir=" + path("upper"), "uidmap=0:1000:10",
                "lowerdir=" + path("image") + ":" + path("volume"), "gidmap=0:2000:10"}});
    ASSERT_TRUE(mounted) << mounted.error().message();
    EXPECT_EQ(Owner(path("shared")), "1000:2000");
    EXPECT_EQ(Owner(path("shared/hello")), "1003:2004");
    EXPECT_EQ(Owner(path("shared/data")), "1000:2000");
    ASSERT_TRUE(sys::Chown(path("shared/data"), 1001, 2001));
    EXPECT_EQ(Owner(path("upper/data")), "1001:2001");
    EXPECT_EQ(Owner(path("volume/data")), "0:0");
    ASSERT_TRUE(sys::Unmount(path("shared")));
    const auto failed = Mount({"overlay",
                               "overlay",
                               {"lowerdir=" + path("image") + ":" + path("missing"),
                                "uidmap=0:1000:10", "gidmap=0:2000:10"}});
    ASSERT_FALSE(failed);
    EXPECT_THAT(failed.error().message(), HasSubstr(path("missing")));
  });
}

TEST_F(RootfsMountTest, AnythingElseIsMappedWhole) {
  InNamespace([&] {
    ASSERT_TRUE(sys::Mkdir(path("image/below")));
    ASSERT_TRUE(sys::Mount(path("volume"), path("image/below"), "", MS_BIND));
    const auto mounted =
        Mount({"bind", path("image"), {"rbind", "ro", "uidmap=0:1000:10", "gidmap=0:2000:10"}});
    ASSERT_TRUE(mounted) << mounted.error().message();
    EXPECT_EQ(Owner(path("shared/hello")), "1000:2000");
    EXPECT_EQ(Owner(path("shared/below/data")), "1000:2000");
    EXPECT_EQ(sys::WriteFile(path("shared/new"), "").error().errnum(), EROFS);
  });
}

}  // namespace
}  // namespace bulkhead::shim
