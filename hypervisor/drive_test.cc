#include "hypervisor/drive.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/sys.h"
#include "base/temp_dir.h"
#include "hypervisor/fake.h"

namespace bulkhead::hypervisor {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class DriveTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(sys::WriteFile(path_, std::string(4096, 'x'))); }
  DriveConfig Drive(const std::string& serial, int flags = O_RDONLY) {
    return {serial, *sys::Open(path_, flags), flags == O_RDONLY};
  }
  static std::string ErrorOf(const DriveConfig& drive) {
    const auto kind = CheckDrive(drive);
    return kind ? "none" : kind.error().message();
  }

  TempDir dir_ = *TempDir::Create("/tmp/drive-test-");
  const std::string path_ = dir_.path() + "/image";
};

TEST_F(DriveTest, TellsKinds) {
  EXPECT_EQ(CheckDrive(Drive("a")).value(), DriveKind::kRegularFile);
  EXPECT_EQ(CheckDrive(Drive("Z9._-", O_RDWR)).value(), DriveKind::kRegularFile);
}

TEST_F(DriveTest, RefusesSerials) {
  EXPECT_TRUE(CheckDrive(Drive(std::string(20, 's'))));
  for (const std::string& bad :
       {std::string(), std::string(21, 's'), std::string("a b"), std::string("a/b"),
        std::string("a\"b"), std::string("a\0b", 3), std::string("\xc3\xa9")}) {
    EXPECT_THAT(ErrorOf(Drive(bad)), HasSubstr("a serial has 1 to 20")) << bad;
  }
}

TEST_F(DriveTest, RefusesFiles) {
  EXPECT_THAT(ErrorOf({"s", UniqueFd(), true}), HasSubstr("drive s: fstat: Bad file descriptor"));
  EXPECT_THAT(ErrorOf({"s", *sys::Open("/dev/null", O_RDONLY), true}),
              HasSubstr("drive s: the file is neither a block device nor a regular file"));
  EXPECT_THAT(ErrorOf({"s", *sys::Open(dir_.path(), O_RDONLY), true}), HasSubstr("neither"));
  EXPECT_EQ(ErrorOf({"s", *sys::Open(path_, O_RDONLY), false}),
            "drive s: the file is not open for reading and writing");
  EXPECT_THAT(ErrorOf({"s", *sys::Open(path_, O_RDWR), true}), HasSubstr("reading alone"));
  EXPECT_THAT(ErrorOf({"s", *sys::Open(path_, O_PATH), true}), HasSubstr("not open for"));
  ASSERT_TRUE(sys::WriteFile(path_, ""));
  EXPECT_EQ(ErrorOf(Drive("s")), "drive s: the file is empty");
}

TEST_F(DriveTest, FakeVmKeepsDrives) {
  const auto guest = std::make_shared<FakeGuest>(UniqueFd());
  FakeVm vm(guest);
  EXPECT_TRUE(vm.AttachDrive(Drive("b")));
  EXPECT_TRUE(vm.AttachDrive(Drive("a")));
  EXPECT_EQ(vm.AttachDrive(Drive("a")).error().code(), ErrorCode::kAlreadyExists);
  EXPECT_THAT(guest->drives(), ElementsAre("a", "b"));
  EXPECT_TRUE(vm.DetachDrive("a"));
  EXPECT_EQ(vm.DetachDrive("a").error().code(), ErrorCode::kNotFound);
  EXPECT_TRUE(vm.DetachDrive("b"));
  EXPECT_THAT(guest->drives(), IsEmpty());
  vm.Kill();
  EXPECT_EQ(vm.AttachDrive(Drive("a")).error().message(), "drive a: the VM was killed on request");
  EXPECT_EQ(vm.DetachDrive("a").error().code(), ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace bulkhead::hypervisor
