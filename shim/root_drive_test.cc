#include "shim/root_drive.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/sys.h"
#include "hypervisor/fake.h"

namespace bulkhead::shim {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

UniqueFd Image() {
  UniqueFd file = sys::MemFd("image").value();
  EXPECT_TRUE(sys::Ftruncate(file.get(), 1 << 20));
  return file;
}

TEST(UpperDrive, IsPluggedInAndTakenOut) {
  const auto guest = std::make_shared<hypervisor::FakeGuest>(UniqueFd());
  const auto vm = std::make_shared<hypervisor::FakeVm>(guest);
  {
    auto drive = RootDrive::AttachUpper(vm, Image(), "drive-7");
    ASSERT_TRUE(drive) << drive.error().message();
    EXPECT_THAT(guest->drives(), ElementsAre("drive-7"));
    const pb::Drive& description = drive->description();
    EXPECT_EQ(description.serial(), "drive-7");
    EXPECT_EQ(description.filesystem(), "ext4");
    EXPECT_EQ(description.mount_point(), "/run/bulkhead/drives/drive-7");
    EXPECT_THAT(description.options(), ElementsAre("discard", "noinit_itable"));
    const Error error = drive->Explain({ErrorCode::kInternal, "drive \"drive-7\": broken"});
    EXPECT_THAT(error.message(), HasSubstr("the writable layer as ext4: drive"));
    const auto taken = RootDrive::AttachUpper(vm, Image(), "drive-7");
    ASSERT_FALSE(taken);
    EXPECT_EQ(taken.error().code(), ErrorCode::kAlreadyExists);
    const RootDrive moved = std::move(*drive);
    EXPECT_THAT(guest->drives(), ElementsAre("drive-7"));
  }
  EXPECT_THAT(guest->drives(), IsEmpty());
}

TEST(RootDrive, ItsIdsCannotBeMapped) {
  const auto guest = std::make_shared<hypervisor::FakeGuest>(UniqueFd());
  const auto vm = std::make_shared<hypervisor::FakeVm>(guest);
  const RootfsMount mount{"ext4", "/dev/zero", {"ro", "uidmap=0:1000:10", "gidmap=0:1000:10"}};
  const auto refused = RootDrive::Attach(vm, mount, "drive-1");
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("rootfs: /dev/zero: options \"uidmap=\""));
  EXPECT_THAT(guest->drives(), IsEmpty());
}

}  // namespace
}  // namespace bulkhead::shim
