#include "shim/task_metrics.h"

#include <gtest/gtest.h>

#include <functional>

#include "base/sys.h"
#include "containerd/cgroups_v1.pb.h"
#include "containerd/cgroups_v2.pb.h"

namespace bulkhead::shim {
namespace {

using agent::v1::ContainerStatsResponse;
using V1 = io::containerd::cgroups::v1::Metrics;
using V2 = io::containerd::cgroups::v2::Metrics;

constexpr uint64_t kMax = ~0ULL;

ContainerStatsResponse Example() {
  ContainerStatsResponse stats;
  stats.set_pids_current(3);
  stats.set_pids_max(64);
  stats.mutable_cpu()->insert({{"usage_usec", 5'000'001},
                               {"user_usec", 3'000'000},
                               {"system_usec", 2'000'001},
                               {"nr_periods", 10},
                               {"nr_throttled", 4},
                               {"throttled_usec", 77}});
  stats.set_memory_current(100 << 20);
  stats.set_memory_max(256 << 20);
  stats.set_memory_peak(120 << 20);
  stats.set_swap_current(5 << 20);
  stats.set_swap_max(64 << 20);
  stats.mutable_memory()->insert({{"anon", 1000},
                                  {"file", 2000},
                                  {"anon_thp", 300},
                                  {"file_mapped", 400},
                                  {"file_dirty", 50},
                                  {"file_writeback", 60},
                                  {"inactive_anon", 11},
                                  {"active_anon", 12},
                                  {"inactive_file", 13},
                                  {"active_file", 14},
                                  {"unevictable", 15},
                                  {"pgfault", 1600},
                                  {"pgmajfault", 17},
                                  {"kernel", 9000},
                                  {"kernel_stack", 100},
                                  {"slab", 200},
                                  {"sock", 70},
                                  {"shmem", 80},
                                  {"workingset_refault_anon", 1},
                                  {"workingset_refault_file", 2},
                                  {"workingset_activate_anon", 3},
                                  {"workingset_activate_file", 4},
                                  {"thp_collapse_alloc", 18}});
  stats.mutable_memory_events()->insert(
      {{"low", 1}, {"high", 2}, {"max", 3}, {"oom", 4}, {"oom_kill", 5}});
  auto& io = *stats.add_io();
  io.set_major(254);
  io.set_minor(16);
  io.set_rbytes(4096);
  io.set_wbytes(8192);
  io.set_rios(1);
  io.set_wios(2);
  auto& huge = *stats.add_hugetlb();
  huge.set_page_size("2MB");
  huge.set_current(2 << 20);
  huge.set_max(kMax);
  huge.set_failures(6);
  return stats;
}

V1 ToV1(const ContainerStatsResponse& stats) {
  const auto any = TaskMetrics(stats, {}, CgroupMode::kV1);
  EXPECT_EQ(any.type_url(), "io.containerd.cgroups.v1.Metrics");
  V1 metrics;
  EXPECT_TRUE(metrics.ParseFromString(any.value()));
  return metrics;
}

V2 ToV2(const ContainerStatsResponse& stats) {
  const auto any = TaskMetrics(stats, {}, CgroupMode::kV2);
  EXPECT_EQ(any.type_url(), "io.containerd.cgroups.v2.Metrics");
  V2 metrics;
  EXPECT_TRUE(metrics.ParseFromString(any.value()));
  return metrics;
}

template <typename Metrics>
struct Row {
  const char* name;
  std::function<uint64_t(const Metrics&)> get;
  uint64_t value;
};

#define ROW(expression, value)                                                 \
  {                                                                            \
#expression, [](const auto& m) -> uint64_t { return m.expression; }, value \
  }

TEST(TaskMetrics, V1) {
  const V1 metrics = ToV1(Example());
  const Row<V1> rows[] = {
      ROW(pids().current(), 3),
      ROW(pids().limit(), 64),
      ROW(cpu().usage().total(), 5'000'001'000),
      ROW(cpu().usage().user(), 3'000'000'000),
      ROW(cpu().usage().kernel(), 2'000'001'000),
      ROW(cpu().throttling().periods(), 10),
      ROW(cpu().throttling().throttled_periods(), 4),
      ROW(cpu().throttling().throttled_time(), 77'000),
      ROW(memory().usage().usage(), 100 << 20),
      ROW(memory().usage().limit(), 256 << 20),
      ROW(memory().usage().max(), 120 << 20),
      ROW(memory().usage().failcnt(), 3),
      ROW(memory().swap().usage(), 105 << 20),
      ROW(memory().swap().limit(), 320 << 20),
      ROW(memory().swap().max(), 120 << 20),
      ROW(memory().kernel().usage(), 9000),
      ROW(memory().kernel().limit(), 9223372036854771712U),
      ROW(memory().kernel_tcp().usage(), 70),
      ROW(memory().hierarchical_memory_limit(), 256 << 20),
      ROW(memory().hierarchical_swap_limit(), 320 << 20),
      ROW(memory().cache(), 2000),
      ROW(memory().rss(), 1000),
      ROW(memory().rss_huge(), 300),
      ROW(memory().mapped_file(), 400),
      ROW(memory().dirty(), 50),
      ROW(memory().writeback(), 60),
      ROW(memory().pg_fault(), 1600),
      ROW(memory().pg_maj_fault(), 17),
      ROW(memory().inactive_anon(), 11),
      ROW(memory().active_anon(), 12),
      ROW(memory().inactive_file(), 13),
      ROW(memory().active_file(), 14),
      ROW(memory().unevictable(), 15),
      ROW(memory().total_cache(), 2000),
      ROW(memory().total_rss(), 1000),
      ROW(memory().total_rss_huge(), 300),
      ROW(memory().total_mapped_file(), 400),
      ROW(memory().total_dirty(), 50),
      ROW(memory().total_writeback(), 60),
      ROW(memory().total_pg_fault(), 1600),
      ROW(memory().total_pg_maj_fault(), 17),
      ROW(memory().total_inactive_anon(), 11),
      ROW(memory().total_active_anon(), 12),
      ROW(memory().total_inactive_file(), 13),  // of CRI's working set
      ROW(memory().total_active_file(), 14),
      ROW(memory().total_unevictable(), 15),
      ROW(memory_oom_control().oom_kill(), 5),
      ROW(hugetlb(0).usage(), 2 << 20),
      ROW(hugetlb(0).failcnt(), 6),
  };
  for (const auto& [name, get, value] : rows) {
    EXPECT_EQ(get(metrics), value) << name;
  }
  EXPECT_EQ(metrics.hugetlb(0).pagesize(), "2MB");
}

TEST(TaskMetrics, V1BlockIo) {
  const V1 metrics = ToV1(Example());
  struct Entry {
    const io::containerd::cgroups::v1::BlkIOEntry& entry;
    std::string op;
    uint64_t value;
  };
  const auto& blkio = metrics.blkio();
  ASSERT_EQ(blkio.io_service_bytes_recursive_size(), 2);
  ASSERT_EQ(blkio.io_serviced_recursive_size(), 2);
  for (const auto& [entry, op, value] : {Entry{blkio.io_service_bytes_recursive(0), "Read", 4096},
                                         Entry{blkio.io_service_bytes_recursive(1), "Write", 8192},
                                         Entry{blkio.io_serviced_recursive(0), "Read", 1},
                                         Entry{blkio.io_serviced_recursive(1), "Write", 2}}) {
    EXPECT_EQ(entry.op(), op);
    EXPECT_EQ(entry.value(), value);
    EXPECT_EQ(entry.major(), 254U);
    EXPECT_EQ(entry.minor(), 16U);
  }
}

TEST(TaskMetrics, V2) {
  const V2 metrics = ToV2(Example());
  const Row<V2> rows[] = {
      ROW(pids().current(), 3),
      ROW(pids().limit(), 64),
      ROW(cpu().usage_usec(), 5'000'001),
      ROW(cpu().user_usec(), 3'000'000),
      ROW(cpu().system_usec(), 2'000'001),
      ROW(cpu().nr_periods(), 10),
      ROW(cpu().nr_throttled(), 4),
      ROW(cpu().throttled_usec(), 77),
      ROW(memory().usage(), 100 << 20),
      ROW(memory().usage_limit(), 256 << 20),
      ROW(memory().max_usage(), 120 << 20),
      ROW(memory().swap_usage(), 5 << 20),
      ROW(memory().swap_limit(), 64 << 20),
      ROW(memory().anon(), 1000),
      ROW(memory().file(), 2000),
      ROW(memory().anon_thp(), 300),
      ROW(memory().inactive_anon(), 11),
      ROW(memory().active_anon(), 12),
      ROW(memory().inactive_file(), 13),  // of CRI's working set
      ROW(memory().active_file(), 14),
      ROW(memory().unevictable(), 15),
      ROW(memory().pgfault(), 1600),
      ROW(memory().pgmajfault(), 17),
      ROW(memory().kernel_stack(), 100),
      ROW(memory().slab(), 200),
      ROW(memory().sock(), 70),
      ROW(memory().shmem(), 80),
      ROW(memory().workingset_refault(), 3),
      ROW(memory().workingset_activate(), 7),
      ROW(memory().thp_collapse_alloc(), 18),
      ROW(memory_events().low(), 1),
      ROW(memory_events().high(), 2),
      ROW(memory_events().max(), 3),
      ROW(memory_events().oom(), 4),
      ROW(memory_events().oom_kill(), 5),
      ROW(io().usage(0).major(), 254),
      ROW(io().usage(0).minor(), 16),
      ROW(io().usage(0).rbytes(), 4096),
      ROW(io().usage(0).wbytes(), 8192),
      ROW(io().usage(0).rios(), 1),
      ROW(io().usage(0).wios(), 2),
      ROW(hugetlb(0).current(), 2 << 20),
      ROW(hugetlb(0).max(), kMax),
  };
  for (const auto& [name, get, value] : rows) {
    EXPECT_EQ(get(metrics), value) << name;
  }
  EXPECT_EQ(metrics.hugetlb(0).pagesize(), "2MB");
}

TEST(TaskMetrics, NoLimits) {
  struct Case {
    uint64_t memory_max;
    uint64_t swap_max;
    uint64_t v1_memory;
    uint64_t v1_swap;
  };
  constexpr uint64_t kV1Unlimited = 9223372036854771712U;
  for (const auto& [memory_max, swap_max, v1_memory, v1_swap] :
       {Case{kMax, kMax, kV1Unlimited, kV1Unlimited}, Case{4096, kMax, 4096, kV1Unlimited},
        Case{kMax, 0, kV1Unlimited, kV1Unlimited}, Case{4096, 0, 4096, 4096}}) {
    ContainerStatsResponse stats;
    stats.set_memory_max(memory_max);
    stats.set_swap_max(swap_max);
    stats.set_pids_max(kMax);
    const V1 one = ToV1(stats);
    EXPECT_EQ(one.memory().usage().limit(), v1_memory);
    EXPECT_EQ(one.memory().swap().limit(), v1_swap);
    EXPECT_EQ(one.pids().limit(), 0U);
    const V2 two = ToV2(stats);
    EXPECT_EQ(two.memory().usage_limit(), memory_max);
    EXPECT_EQ(two.memory().swap_limit(), swap_max);
    EXPECT_EQ(two.pids().limit(), kMax);
  }
}

TEST(TaskMetrics, OldKernelsTellNeitherPeakNorKernelMemory) {
  ContainerStatsResponse stats = Example();
  stats.clear_memory_peak();
  stats.mutable_memory()->erase("kernel");
  stats.mutable_memory()->insert({"pagetables", 50});
  EXPECT_EQ(ToV1(stats).memory().usage().max(), 100U << 20U);
  EXPECT_EQ(ToV1(stats).memory().kernel().usage(), 350U);
  EXPECT_EQ(ToV2(stats).memory().max_usage(), 100U << 20U);
}

TEST(TaskMetrics, AHostileGuestIsCut) {
  ContainerStatsResponse stats;
  stats.mutable_cpu()->insert({"usage_usec", kMax});
  stats.set_memory_current(kMax);
  stats.set_swap_current(kMax);
  stats.mutable_memory()->insert({{"slab", kMax}, {"percpu", kMax}});
  stats.mutable_memory()->insert({"no_such_counter", 1});
  for (int i = 0; i < 1000; ++i) {
    stats.add_io()->set_minor(static_cast<uint64_t>(i));
    stats.add_hugetlb()->set_page_size("2MB");
  }
  stats.mutable_hugetlb(0)->set_page_size("2MB\x1b[2J");
  stats.mutable_hugetlb(1)->set_page_size("");
  stats.mutable_hugetlb(2)->set_page_size(std::string(1000, '2'));
  const V1 one = ToV1(stats);
  EXPECT_EQ(one.cpu().usage().total(), kMax);
  EXPECT_EQ(one.memory().swap().usage(), kMax);
  EXPECT_EQ(one.memory().kernel().usage(), kMax);
  EXPECT_EQ(one.blkio().io_serviced_recursive_size(), 512);
  EXPECT_EQ(one.hugetlb_size(), 13);
  const V2 two = ToV2(stats);
  EXPECT_EQ(two.io().usage_size(), 256);
  EXPECT_EQ(two.hugetlb_size(), 13);
}

TEST(TaskMetrics, NothingIsThereButStillEveryPart) {
  const V1 one = ToV1({});
  EXPECT_TRUE(one.has_cpu() && one.has_memory() && one.has_pids() && one.has_blkio());
  EXPECT_TRUE(one.cpu().has_usage() && one.cpu().has_throttling());
  EXPECT_TRUE(one.memory().has_usage() && one.memory().has_swap());
  const V2 two = ToV2({});
  EXPECT_TRUE(two.has_cpu() && two.has_memory() && two.has_pids() && two.has_io());
}

TEST(HostCgroupMode, IsOfTheMountItself) {
  EXPECT_EQ(HostCgroupMode("/proc"), CgroupMode::kV1);
  EXPECT_EQ(HostCgroupMode("/does/not/exist"), CgroupMode::kV1);
  // cgroup.controllers is in every directory of v2, and in none of v1.
  const std::string folders[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
  for (const std::string& folder : folders) {
    EXPECT_EQ(HostCgroupMode(folder),
              sys::Exists(folder + "/cgroup.controllers") ? CgroupMode::kV2 : CgroupMode::kV1);
  }
}

}  // namespace
}  // namespace bulkhead::shim
