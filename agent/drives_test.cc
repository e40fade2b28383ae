#include "agent/drives.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/sys.h"
#include "base/temp_dir.h"

namespace bulkhead::agent {
namespace {

using ::testing::HasSubstr;

TEST(Drives, FindsADeviceByItsSerial) {
  const auto dir = TempDir::Create("/tmp/drives-");
  ASSERT_TRUE(dir);
  for (const char* folder : {"/vda", "/loop0", "/nvme0n1/device"}) {
    ASSERT_TRUE(sys::MkdirAll(dir->path() + folder));
  }
  ASSERT_TRUE(sys::WriteFile(dir->path() + "/vda/serial", "root"));
  ASSERT_TRUE(sys::WriteFile(dir->path() + "/nvme0n1/device/serial", "volume-1   \n"));
  EXPECT_EQ(*FindBlockDevice(dir->path(), "root"), "vda");
  EXPECT_EQ(*FindBlockDevice(dir->path(), "volume-1"), "nvme0n1");
  EXPECT_EQ(FindBlockDevice(dir->path(), "roo").error().code(), ErrorCode::kNotFound);
}

TEST(Drives, RefusesNonsense) {
  const auto error = [](const Drive& drive) {
    const auto mounted = DriveMounts::Create({drive}, std::chrono::milliseconds(5));
    return mounted ? std::string() : mounted.error().message();
  };
  EXPECT_THAT(error({"", "ext4", {}, "/m"}), HasSubstr("serial or filesystem"));
  EXPECT_THAT(error({"s", "", {}, "/m"}), HasSubstr("serial or filesystem"));
  EXPECT_THAT(error({"s", "ext4", {}, "m"}), HasSubstr("mount_point \"m\""));
  EXPECT_THAT(error({"s", "ext4", {"bind"}, "/m"}), HasSubstr("not for a block device"));
  EXPECT_THAT(error({"s", "ext4", {"rslave"}, "/m"}), HasSubstr("not for a block device"));
  EXPECT_THAT(error({"no such disk", "ext4", {"ro"}, "/m"}),
              HasSubstr("drive \"no such disk\": no block device appeared"));
}

}  // namespace
}  // namespace bulkhead::agent
