#include "shim/upper_image.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/sys.h"
#include "base/temp_dir.h"

namespace bulkhead::shim {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kMkfs[] = "/usr/sbin/mkfs.ext4";
constexpr uint64_t kMegabyte = 1U << 20U;

class UpperImage : public ::testing::Test {
 protected:
  Result<UniqueFd> Make(uint64_t size, const std::string& mkfs = kMkfs) {
    return MakeUpperImage(folder_.path() + "/data", size, mkfs, spawner_);
  }
  std::vector<std::string> Left() const {
    return sys::ListDirectory(folder_.path() + "/data").value();
  }
  std::string Program(const std::string& script) {
    std::string path = folder_.path() + "/mkfs";
    EXPECT_TRUE(sys::WriteFile(path, "#!/bin/sh\n" + script, 0755));
    return path;
  }

  TempDir folder_ = TempDir::Create("/tmp/bulkhead-upper-test.").value();
  SpawnThread spawner_;
};

TEST_F(UpperImage, IsASparseExt4WithoutAName) {
  if (!sys::Exists(kMkfs)) {
    GTEST_SKIP() << kMkfs << " is missing";
  }
  for (const uint64_t megabytes : {16U, 10240U, 100000U}) {
    const auto image = Make(megabytes * kMegabyte);
    ASSERT_TRUE(image) << image.error().message();
    const auto info = sys::FStat(image->get()).value();
    EXPECT_EQ(static_cast<uint64_t>(info.st_size), megabytes * kMegabyte);
    EXPECT_EQ(info.st_nlink, 0U);
    EXPECT_LT(static_cast<uint64_t>(info.st_blocks) * 512, 2 * kMegabyte) << megabytes;
    std::array<std::byte, 2> magic{};
    ASSERT_TRUE(sys::ReadAt(image->get(), magic, 1024 + 56));
    EXPECT_EQ(magic[0], std::byte{0x53});
    EXPECT_EQ(magic[1], std::byte{0xef});
    EXPECT_EQ(::fcntl(image->get(), F_GETFL) & O_ACCMODE, O_RDWR);
    EXPECT_THAT(Left(), IsEmpty());
  }
}

TEST_F(UpperImage, AMissingToolIsNamedWithItsPackage) {
  const auto image = Make(16 * kMegabyte, "/nonexistent/mkfs.ext4");
  ASSERT_FALSE(image);
  EXPECT_THAT(image.error().message(), HasSubstr("/nonexistent/mkfs.ext4"));
  EXPECT_THAT(image.error().message(), HasSubstr("e2fsprogs"));
  EXPECT_THAT(Left(), IsEmpty());
}

TEST_F(UpperImage, AToolThatFailsIsQuoted) {
  const auto image =
      Make(16 * kMegabyte, Program("printf '\\nno such luck\\n' >&2; echo more; exit 3\n"));
  ASSERT_FALSE(image);
  EXPECT_EQ(image.error().message(), folder_.path() + "/mkfs failed (3): no such luck");
  EXPECT_THAT(Left(), IsEmpty());
}

TEST_F(UpperImage, ATruthfulToolSaysWhatIsWrong) {
  if (!sys::Exists(kMkfs)) {
    GTEST_SKIP() << kMkfs << " is missing";
  }
  const auto image = Make(4096);  // far too small
  ASSERT_FALSE(image);
  EXPECT_THAT(image.error().message(),
              HasSubstr(std::string(kMkfs) + " failed (1): /proc/self/fd/3: Not"));
}

TEST_F(UpperImage, AFolderThatCannotBeIsNamed) {
  ASSERT_TRUE(sys::WriteFile(folder_.path() + "/data", ""));
  const auto image = Make(16 * kMegabyte);
  ASSERT_FALSE(image);
  EXPECT_THAT(image.error().message(), HasSubstr(folder_.path() + "/data"));
}

}  // namespace
}  // namespace bulkhead::shim
