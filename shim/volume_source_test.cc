#include "shim/volume_source.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include "shim/mount_test_util.h"

namespace bulkhead::shim {
namespace {

using ::testing::HasSubstr;

constexpr char kMountInfo[] =
    "20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda rw\n"
    "31 20 8:2 / /a rw,nosuid shared:2 master:1 - ext4 /dev/sdb rw,x\n"
    "32 31 0:7 / /a/b\\040c ro - tmpfs tmpfs rw\n"
    "33 31 0:8 / /a/bc rw - tmpfs tmpfs rw\n"
    "34 32 0:9 /in /a/b\\040c/d\\134 rw - tmpfs tmpfs rw\n";

TEST(MountsOf, TakesTheMountItselfAndThoseBelowThePath) {
  EXPECT_EQ(MountsOf(kMountInfo, 31, "/a/x", false), "31 20 8:2 / /a rw,nosuid\n");
  EXPECT_EQ(MountsOf(kMountInfo, 31, "/a/x", true), "31 20 8:2 / /a rw,nosuid\n");
  EXPECT_EQ(MountsOf(kMountInfo, 32, "/a/b c", true),
            "32 31 0:7 / /a/b\\040c ro\n34 32 0:9 /in /a/b\\040c/d\\134 rw\n");
  EXPECT_EQ(MountsOf(kMountInfo, 34, "/a/b c/d\\", true), "34 32 0:9 /in /a/b\\040c/d\\134 rw\n");
  EXPECT_THAT(MountsOf(kMountInfo, 20, "/", true), HasSubstr("\n33 31 0:8 / /a/bc rw\n34 "));
}

TEST(MountsOf, AMountThatIsNotThereTellsNothing) {
  EXPECT_EQ(MountsOf(kMountInfo, 3, "/", true), "");
  EXPECT_EQ(MountsOf("", 20, "/", true), "");
  EXPECT_EQ(MountsOf("20\n\\", 20, "/", true), "20     \n");
}

class VolumeSourceTest : public MountTest {
 protected:
  std::string Identity(const std::string& name, bool recursive = true) {
    auto source = OpenVolumeSource(path(name), recursive, -1);
    EXPECT_TRUE(source) << source.error().message();
    held_.push_back(std::move(*source));
    return held_.back().identity;
  }

  std::vector<VolumeSource> held_;
};

TEST_F(VolumeSourceTest, IsTheSameAsLongAsItIs) {
  InNamespace([&] {
    const std::string first = Identity("volume");
    EXPECT_NE(first, "");
    EXPECT_EQ(Identity("image/../volume"), first);
    EXPECT_NE(Identity("image"), first);
    EXPECT_NE(Identity("volume/data"), first);
    EXPECT_FALSE(OpenVolumeSource(path("volume/data"), true, -1)->is_folder);
    ASSERT_TRUE(sys::Rename(path("volume"), path("old")));
    ASSERT_TRUE(sys::Mkdir(path("volume")));
    EXPECT_NE(Identity("volume"), first) << "replaced";
    held_.clear();
  });
}

TEST_F(VolumeSourceTest, OtherMountsMakeAnother) {
  InNamespace([&] {
    ASSERT_TRUE(sys::Mkdir(path("volume/below")));
    const std::string first = Identity("volume");
    const std::string flat = Identity("volume", false);
    ASSERT_TRUE(sys::Mount("below", path("volume/below"), "tmpfs", 0));
    const std::string second = Identity("volume");
    EXPECT_NE(second, first);
    EXPECT_EQ(Identity("volume", false), flat);
    ASSERT_TRUE(sys::Unmount(path("volume/below")));
    ASSERT_TRUE(sys::Mount("below", path("volume/below"), "tmpfs", 0));
    EXPECT_NE(Identity("volume"), second);
    ASSERT_TRUE(sys::Mount(path("volume"), path("volume"), "", MS_BIND));
    EXPECT_NE(Identity("volume", false), flat) << "the same folder of another mount";
    held_.clear();
  });
}

TEST_F(VolumeSourceTest, IsNotToldOfAMountThatIsNotInTheNamespace) {
  InNamespace([&] {
    ASSERT_TRUE(sys::Mount("gone", path("image"), "tmpfs", 0));
    const UniqueFd held = sys::Open(path("image"), O_PATH).value();
    const std::string by_fd = "/proc/thread-self/fd/" + std::to_string(held.get());
    EXPECT_NE(OpenVolumeSource(by_fd, false, -1)->identity, "");
    ASSERT_TRUE(sys::Unmount(path("image"), MNT_DETACH));
    const auto source = OpenVolumeSource(by_fd, false, -1);
    EXPECT_TRUE(!source || source->identity.empty());
  });
}

TEST_F(VolumeSourceTest, DevicesAndWhatIsMissingAreErrors) {
  InNamespace([&] {
    EXPECT_EQ(OpenVolumeSource("/dev/null", false, -1).error().code(), ErrorCode::kUnimplemented);
    const auto missing = OpenVolumeSource(path("missing"), false, -1);
    ASSERT_FALSE(missing);
    EXPECT_THAT(missing.error().message(), HasSubstr(path("missing")));
  });
}

}  // namespace
}  // namespace bulkhead::shim
