#include "agent/huge_pages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/sys.h"
#include "base/temp_dir.h"

namespace bulkhead::agent {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kPage = 2U << 20U;

// A folder as the kernel's, where a number stays as it is written.
class HugePagesTest : public ::testing::Test {
 protected:
  HugePagesTest()
      : folder_(*TempDir::Create("/tmp/huge-pages-test.")),
        pool_(folder_.path() + "/hugepages-2048kB") {
    EXPECT_TRUE(sys::Mkdir(pool_));
    Put("nr_hugepages", "1\n");
    Put("surplus_hugepages", "0\n");
    EXPECT_TRUE(sys::WriteFile(folder_.path() + "/meminfo",
                               "MemTotal:  262144 kB\nMemFree:   10240 kB\n"
                               "MemAvailable: 204800 kB\n",
                               0600));
  }
  void Put(const std::string& name, const std::string& text) {
    EXPECT_TRUE(sys::WriteFile(pool_ + "/" + name, text, 0600));
  }
  int Pages() const { return std::stoi(*sys::ReadFile(pool_ + "/nr_hugepages")); }

  const TempDir folder_;
  const std::string pool_;
  HugePages pages_{folder_.path(), folder_.path() + "/meminfo"};
};

TEST_F(HugePagesTest, AreWhatAllClaimTogether) {
  HugePages::Claim first(pages_);
  ASSERT_TRUE(first.Set(kPage, 4 * kPage));
  EXPECT_EQ(Pages(), 4);
  {
    HugePages::Claim second(pages_);
    ASSERT_TRUE(second.Set({{"2MB", 3 * kPage + 1}, {"1GB", 0}}));
    EXPECT_EQ(Pages(), 7);
    ASSERT_TRUE(first.Set(kPage, 2 * kPage));
    EXPECT_EQ(Pages(), 5);
  }
  EXPECT_EQ(Pages(), 2);
  ASSERT_TRUE(first.Set(kPage, 0));
  EXPECT_EQ(Pages(), 1) << "what the machine was booted with";
}

TEST_F(HugePagesTest, NoLimitClaimsNone) {
  HugePages::Claim claim(pages_);
  ASSERT_TRUE(claim.Set({{"2MB", 0x7FFFFFFFFFFFF000}}));
  ASSERT_TRUE(claim.Set({{"2MB", ~uint64_t{0}}}));
  EXPECT_EQ(Pages(), 1);
}

TEST_F(HugePagesTest, TooManyAreAnErrorWithNumbers) {
  HugePages::Claim first(pages_);
  ASSERT_TRUE(first.Set(kPage, 2 * kPage));
  Put("surplus_hugepages", "3");  // so 6 are no more than 3
  HugePages::Claim second(pages_);
  const Status claimed = second.Set({{"2MB", 4 * kPage}});
  ASSERT_FALSE(claimed);
  EXPECT_EQ(claimed.error().code(), ErrorCode::kResourceExhausted);
  EXPECT_THAT(claimed.error().message(),
              HasSubstr("linux.resources.hugepageLimits: 6 pages of 2048 kB are wanted in all, and "
                        "the virtual machine has room for 3: of its 256 MiB of memory 10 MiB"));
  EXPECT_EQ(Pages(), 2);
}

TEST_F(HugePagesTest, WhatIsOutOfReachIsNotTried) {
  HugePages::Claim claim(pages_);
  const Status claimed = claim.Set({{"2MB", 102 * kPage}});
  ASSERT_FALSE(claimed);
  EXPECT_THAT(claimed.error().message(), HasSubstr("102 pages of 2048 kB are wanted"));
  EXPECT_THAT(claimed.error().message(), HasSubstr("room for 101:"));
  EXPECT_EQ(Pages(), 1);
  EXPECT_TRUE(claim.Set({{"2MB", 101 * kPage}}));
}

TEST_F(HugePagesTest, ASizeThatTheMachineHasNot) {
  HugePages::Claim claim(pages_);
  const Status claimed = claim.Set({{"1GB", 1U << 30U}});
  ASSERT_FALSE(claimed);
  EXPECT_THAT(claimed.error().message(), HasSubstr("the guest has no pages of 1048576 kB"));
}

}  // namespace
}  // namespace bulkhead::agent
