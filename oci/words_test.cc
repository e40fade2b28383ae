#include "oci/words.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

namespace bulkhead::oci {
namespace {

using ::testing::HasSubstr;

std::vector<size_t> Cpus(std::string_view text) {
  std::vector<size_t> out;
  const auto set = ParseCpuList(text);
  for (size_t cpu = 0; set && cpu < set->size(); ++cpu) {
    if ((*set)[cpu]) {
      out.push_back(cpu);
    }
  }
  return out;
}

TEST(CpuList, IsRuncs) {
  EXPECT_EQ(Cpus("0"), (std::vector<size_t>{0}));
  EXPECT_EQ(Cpus("0-2, 7,,1023"), (std::vector<size_t>{0, 1, 2, 7, 1023}));
  for (const char* bad : {"", ",", "x", "1-", "-1", "3-2", "1024", "0x1", "1 2", "0-1024"}) {
    EXPECT_FALSE(ParseCpuList(bad)) << bad;
  }
  EXPECT_THAT(ParseCpuList("3-2").error().message(), HasSubstr("3-2"));
}

TEST(Words, OfScheduling) {
  EXPECT_EQ(*SchedulerPolicy("SCHED_FIFO"), static_cast<uint32_t>(SCHED_FIFO));
  EXPECT_EQ(*SchedulerPolicy("SCHED_DEADLINE"), 6U);
  EXPECT_EQ(*SchedulerFlag("SCHED_FLAG_RESET_ON_FORK"), 1U);
  EXPECT_EQ(*SchedulerFlag("SCHED_FLAG_UTIL_CLAMP_MAX"), 0x40U);
  EXPECT_EQ(*IoPriorityClass("IOPRIO_CLASS_IDLE"), 3);
  EXPECT_EQ(*PersonalityDomain("LINUX32"), 8U);
  EXPECT_FALSE(SchedulerPolicy("SCHED_ISO"));  // no Linux has it
  EXPECT_FALSE(SchedulerFlag("SCHED_FIFO"));
  EXPECT_FALSE(IoPriorityClass("IOPRIO_CLASS_NONE"));
  EXPECT_THAT(PersonalityDomain("BSD").error().message(), HasSubstr("BSD"));
}

TEST(PageSizeBytes, IsWhatHugepageLimitsName) {
  EXPECT_EQ(*PageSizeBytes("2MB"), 2U << 20U);
  EXPECT_EQ(*PageSizeBytes("64KB"), 64U << 10U);
  EXPECT_EQ(*PageSizeBytes("1GB"), 1U << 30U);
  for (const char* bad :
       {"", "MB", "2", "02MB", "0MB", "2mb", "2TB", "2MB ", "-2MB", "+2MB", "99999999999999GB"}) {
    EXPECT_FALSE(PageSizeBytes(bad)) << bad;
  }
}

TEST(SysctlPath, TakesDotsAndSlashes) {
  EXPECT_EQ(*SysctlPath("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
  EXPECT_EQ(*SysctlPath("net/ipv4/ip_forward"), "net/ipv4/ip_forward");
  EXPECT_EQ(*SysctlPath("net.ipv4.conf.eno2/100.rp_filter"), "net/ipv4/conf/eno2.100/rp_filter");
  EXPECT_EQ(*SysctlPath("net/ipv4/conf/eno2.100/rp_filter"), "net/ipv4/conf/eno2.100/rp_filter");
  for (const char* bad : {"", ".", "a..b", "a/../b", "net//x", "../x", ".a", "a/", "net.//.x"}) {
    EXPECT_FALSE(SysctlPath(bad)) << bad;
  }
}

}  // namespace
}  // namespace bulkhead::oci
