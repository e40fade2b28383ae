#include "agent/cgroup_stats.h"

#include <gtest/gtest.h>

#include "base/sys.h"
#include "base/temp_dir.h"

namespace bulkhead::agent {
namespace {

TEST(CgroupStats, ParsesCounters) {
  EXPECT_EQ(ParseCounters("anon 4096\nfile 18446744073709551615\n"),
            (CgroupStats::Counters{{"anon", 4096}, {"file", 18446744073709551615U}}));
  EXPECT_TRUE(ParseCounters("").empty());
  EXPECT_EQ(ParseCounters("a 1\nb x\nc 2").size(), 1U);
}

TEST(CgroupStats, ParsesIo) {
  const auto io = ParseIo(
      "254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n"
      "7:1 254:16 rbytes=10 wbytes=20 rios=30 wios=40\n");
  ASSERT_EQ(io.size(), 3U);
  EXPECT_EQ(io[0].major, 254U);
  EXPECT_EQ(io[0].wios, 4U);
  EXPECT_EQ(io[1].minor, 1U);
  EXPECT_EQ(io[1].rbytes, 0U);
  EXPECT_EQ(io[2].minor, 16U);
  EXPECT_EQ(io[2].rios, 30U);
  EXPECT_TRUE(ParseIo("rbytes=1 nonsense").empty());
}

TEST(CgroupStats, ReadsAFolder) {
  const auto dir = TempDir::Create("/tmp/cgroup-stats-");
  ASSERT_TRUE(dir);
  const auto put = [&](const char* name, const char* text) {
    ASSERT_TRUE(sys::WriteFile(dir->path() + "/" + name, text));
  };
  put("pids.current", "3\n");
  put("pids.max", "max\n");
  put("memory.max", "1048576\n");
  put("memory.events", "low 0\noom 2\noom_kill 1\noom_group_kill 0\n");
  put("hugetlb.2MB.current", "2097152\n");
  put("hugetlb.2MB.max", "4194304\n");
  put("hugetlb.2MB.events", "max 5\n");
  put("hugetlb.2MB.rsvd.current", "9\n");
  const auto stats = ReadCgroupStats(dir->path());
  ASSERT_TRUE(stats);
  EXPECT_EQ(stats->pids_current, 3U);
  EXPECT_EQ(stats->pids_max, CgroupStats::kUnlimited);
  EXPECT_EQ(stats->memory_max, 1048576U);
  EXPECT_EQ(stats->swap_max, CgroupStats::kUnlimited);
  EXPECT_EQ(stats->memory_peak, 0U);
  EXPECT_EQ(stats->memory_events.at("oom"), 2U);
  EXPECT_EQ(CountOomKills(dir->path()), 1U);
  ASSERT_EQ(stats->hugetlb.size(), 1U);
  EXPECT_EQ(stats->hugetlb[0].page_size, "2MB");
  EXPECT_EQ(stats->hugetlb[0].current, 2097152U);
  EXPECT_EQ(stats->hugetlb[0].max, 4194304U);
  EXPECT_EQ(stats->hugetlb[0].failures, 5U);
  EXPECT_FALSE(ReadCgroupStats(dir->path() + "/none"));
  EXPECT_EQ(CountOomKills(dir->path() + "/none"), 0U);
}

}  // namespace
}  // namespace bulkhead::agent
