#include "shim/task_metrics.h"

#include <linux/magic.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string_view>

#include "containerd/cgroups_v1.pb.h"
#include "containerd/cgroups_v2.pb.h"
#include "shim/typed_any.h"

namespace bulkhead::shim {
namespace {

namespace pb = agent::v1;
namespace v1 = io::containerd::cgroups::v1;
namespace v2 = io::containerd::cgroups::v2;

using Counters = google::protobuf::Map<std::string, uint64_t>;

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
constexpr uint64_t kV1Unlimited = 0x7ffffffffffff000;  // the most pages a signed 64-bit size has
constexpr int kMaxDevices = 256;
constexpr int kMaxPageSizes = 16;
constexpr size_t kMaxPageSizeName = 16;

uint64_t Get(const Counters& counters, const char* name) {
  const auto found = counters.find(name);
  return found == counters.end() ? 0 : found->second;
}

uint64_t Add(uint64_t a, uint64_t b) { return a > kMax - b ? kMax : a + b; }

uint64_t Sum(const Counters& counters, std::initializer_list<const char*> names) {
  uint64_t sum = 0;
  for (const char* name : names) {
    sum = Add(sum, Get(counters, name));
  }
  return sum;
}

uint64_t Nanoseconds(uint64_t microseconds) {
  return microseconds > kMax / 1000 ? kMax : microseconds * 1000;
}

uint64_t V1Limit(uint64_t limit) { return std::min(limit, kV1Unlimited); }

bool IsPageSize(std::string_view name) {
  return !name.empty() && name.size() <= kMaxPageSizeName &&
         std::all_of(name.begin(), name.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z'); });
}

// Calls `take` for each entry of a list of the guest's, up to a limit.
template <typename List, typename Take>
void ForEach(const List& list, int limit, Take take) {
  for (int i = 0; i < std::min(list.size(), limit); ++i) {
    take(list[i]);
  }
}

void FillCpu(const Counters& cpu, v1::CPUStat& out) {
  out.mutable_usage()->set_total(Nanoseconds(Get(cpu, "usage_usec")));
  out.mutable_usage()->set_user(Nanoseconds(Get(cpu, "user_usec")));
  out.mutable_usage()->set_kernel(Nanoseconds(Get(cpu, "system_usec")));
  out.mutable_throttling()->set_periods(Get(cpu, "nr_periods"));
  out.mutable_throttling()->set_throttled_periods(Get(cpu, "nr_throttled"));
  out.mutable_throttling()->set_throttled_time(Nanoseconds(Get(cpu, "throttled_usec")));
}

// The counters that v1 knows twice: of the cgroup alone, and with those below it. v2's are of all.
void FillMemoryCounters(const Counters& memory, v1::MemoryStat& out) {
  const auto both = [&](const char* name, auto own, auto total) {
    (out.*own)(Get(memory, name));
    (out.*total)(Get(memory, name));
  };
  using Stat = v1::MemoryStat;
  both("file", &Stat::set_cache, &Stat::set_total_cache);
  both("anon", &Stat::set_rss, &Stat::set_total_rss);
  both("anon_thp", &Stat::set_rss_huge, &Stat::set_total_rss_huge);
  both("file_mapped", &Stat::set_mapped_file, &Stat::set_total_mapped_file);
  both("file_dirty", &Stat::set_dirty, &Stat::set_total_dirty);
  both("file_writeback", &Stat::set_writeback, &Stat::set_total_writeback);
  both("pgfault", &Stat::set_pg_fault, &Stat::set_total_pg_fault);
  both("pgmajfault", &Stat::set_pg_maj_fault, &Stat::set_total_pg_maj_fault);
  both("inactive_anon", &Stat::set_inactive_anon, &Stat::set_total_inactive_anon);
  both("active_anon", &Stat::set_active_anon, &Stat::set_total_active_anon);
  both("inactive_file", &Stat::set_inactive_file, &Stat::set_total_inactive_file);
  both("active_file", &Stat::set_active_file, &Stat::set_total_active_file);
  both("unevictable", &Stat::set_unevictable, &Stat::set_total_unevictable);
}

void FillEntry(uint64_t limit, uint64_t usage, uint64_t max, uint64_t failcnt,
               v1::MemoryEntry& out) {
  out.set_limit(V1Limit(limit));
  out.set_usage(usage);
  out.set_max(std::max(usage, max));
  out.set_failcnt(failcnt);
}

void FillMemory(const pb::ContainerStatsResponse& stats, v1::MemoryStat& out) {
  FillMemoryCounters(stats.memory(), out);
  FillEntry(stats.memory_max(), stats.memory_current(), stats.memory_peak(),
            Get(stats.memory_events(), "max"), *out.mutable_usage());
  // What v1 calls swap is memory and swap together.
  FillEntry(Add(stats.memory_max(), stats.swap_max()),
            Add(stats.memory_current(), stats.swap_current()), stats.memory_peak(), 0,
            *out.mutable_swap());
  const uint64_t kernel =
      stats.memory().contains("kernel")
          ? Get(stats.memory(), "kernel")
          : Sum(stats.memory(), {"kernel_stack", "pagetables", "percpu", "slab"});
  FillEntry(kMax, kernel, 0, 0, *out.mutable_kernel());
  FillEntry(kMax, Get(stats.memory(), "sock"), 0, 0, *out.mutable_kernel_tcp());
  out.set_hierarchical_memory_limit(out.usage().limit());
  out.set_hierarchical_swap_limit(out.swap().limit());
}

void AddBlkIo(const pb::ContainerStatsResponse::Io& io, v1::BlkIOStat& out) {
  const auto add = [&](v1::BlkIOEntry* entry, const char* op, uint64_t value) {
    entry->set_op(op);
    entry->set_major(io.major());
    entry->set_minor(io.minor());
    entry->set_value(value);
  };
  add(out.add_io_service_bytes_recursive(), "Read", io.rbytes());
  add(out.add_io_service_bytes_recursive(), "Write", io.wbytes());
  add(out.add_io_serviced_recursive(), "Read", io.rios());
  add(out.add_io_serviced_recursive(), "Write", io.wios());
}

v1::Metrics ToV1(const pb::ContainerStatsResponse& stats) {
  v1::Metrics metrics;
  ForEach(stats.hugetlb(), kMaxPageSizes, [&](const auto& entry) {
    if (IsPageSize(entry.page_size())) {
      v1::HugetlbStat& out = *metrics.add_hugetlb();
      out.set_pagesize(entry.page_size());
      out.set_usage(entry.current());
      out.set_max(entry.current());
      out.set_failcnt(entry.failures());
    }
  });
  metrics.mutable_pids()->set_current(stats.pids_current());
  metrics.mutable_pids()->set_limit(stats.pids_max() == kMax ? 0 : stats.pids_max());
  FillCpu(stats.cpu(), *metrics.mutable_cpu());
  FillMemory(stats, *metrics.mutable_memory());
  auto& blkio = *metrics.mutable_blkio();
  ForEach(stats.io(), kMaxDevices, [&](const auto& io) { AddBlkIo(io, blkio); });
  metrics.mutable_memory_oom_control()->set_oom_kill(Get(stats.memory_events(), "oom_kill"));
  return metrics;
}

void FillMemory(const pb::ContainerStatsResponse& stats, v2::MemoryStat& out) {
  const Counters& memory = stats.memory();
  out.set_anon(Get(memory, "anon"));
  out.set_file(Get(memory, "file"));
  out.set_kernel_stack(Get(memory, "kernel_stack"));
  out.set_slab(Get(memory, "slab"));
  out.set_sock(Get(memory, "sock"));
  out.set_shmem(Get(memory, "shmem"));
  out.set_file_mapped(Get(memory, "file_mapped"));
  out.set_file_dirty(Get(memory, "file_dirty"));
  out.set_file_writeback(Get(memory, "file_writeback"));
  out.set_anon_thp(Get(memory, "anon_thp"));
  out.set_inactive_anon(Get(memory, "inactive_anon"));
  out.set_active_anon(Get(memory, "active_anon"));
  out.set_inactive_file(Get(memory, "inactive_file"));
  out.set_active_file(Get(memory, "active_file"));
  out.set_unevictable(Get(memory, "unevictable"));
  out.set_slab_reclaimable(Get(memory, "slab_reclaimable"));
  out.set_slab_unreclaimable(Get(memory, "slab_unreclaimable"));
  out.set_pgfault(Get(memory, "pgfault"));
  out.set_pgmajfault(Get(memory, "pgmajfault"));
  // Kernels since 5.9 count these two in two parts.
  out.set_workingset_refault(
      Sum(memory, {"workingset_refault", "workingset_refault_anon", "workingset_refault_file"}));
  out.set_workingset_activate(
      Sum(memory, {"workingset_activate", "workingset_activate_anon", "workingset_activate_file"}));
  out.set_workingset_nodereclaim(Get(memory, "workingset_nodereclaim"));
  out.set_pgrefill(Get(memory, "pgrefill"));
  out.set_pgscan(Get(memory, "pgscan"));
  out.set_pgsteal(Get(memory, "pgsteal"));
  out.set_pgactivate(Get(memory, "pgactivate"));
  out.set_pgdeactivate(Get(memory, "pgdeactivate"));
  out.set_pglazyfree(Get(memory, "pglazyfree"));
  out.set_pglazyfreed(Get(memory, "pglazyfreed"));
  out.set_thp_fault_alloc(Get(memory, "thp_fault_alloc"));
  out.set_thp_collapse_alloc(Get(memory, "thp_collapse_alloc"));
  out.set_usage(stats.memory_current());
  out.set_usage_limit(stats.memory_max());
  out.set_swap_usage(stats.swap_current());
  out.set_swap_limit(stats.swap_max());
  out.set_max_usage(std::max(stats.memory_peak(), stats.memory_current()));
}

void FillCpu(const Counters& cpu, v2::CPUStat& out) {
  out.set_usage_usec(Get(cpu, "usage_usec"));
  out.set_user_usec(Get(cpu, "user_usec"));
  out.set_system_usec(Get(cpu, "system_usec"));
  out.set_nr_periods(Get(cpu, "nr_periods"));
  out.set_nr_throttled(Get(cpu, "nr_throttled"));
  out.set_throttled_usec(Get(cpu, "throttled_usec"));
}

v2::Metrics ToV2(const pb::ContainerStatsResponse& stats) {
  v2::Metrics metrics;
  metrics.mutable_pids()->set_current(stats.pids_current());
  metrics.mutable_pids()->set_limit(stats.pids_max());
  FillCpu(stats.cpu(), *metrics.mutable_cpu());
  FillMemory(stats, *metrics.mutable_memory());
  auto& usage = *metrics.mutable_io()->mutable_usage();
  ForEach(stats.io(), kMaxDevices, [&](const auto& io) {
    v2::IOEntry& out = *usage.Add();
    out.set_major(io.major());
    out.set_minor(io.minor());
    out.set_rbytes(io.rbytes());
    out.set_wbytes(io.wbytes());
    out.set_rios(io.rios());
    out.set_wios(io.wios());
  });
  ForEach(stats.hugetlb(), kMaxPageSizes, [&](const auto& entry) {
    if (IsPageSize(entry.page_size())) {
      v2::HugeTlbStat& out = *metrics.add_hugetlb();
      out.set_pagesize(entry.page_size());
      out.set_current(entry.current());
      out.set_max(entry.max());
    }
  });
  v2::MemoryEvents& events = *metrics.mutable_memory_events();
  events.set_low(Get(stats.memory_events(), "low"));
  events.set_high(Get(stats.memory_events(), "high"));
  events.set_max(Get(stats.memory_events(), "max"));
  events.set_oom(Get(stats.memory_events(), "oom"));
  events.set_oom_kill(Get(stats.memory_events(), "oom_kill"));
  return metrics;
}

template <typename Metrics>
Metrics WithNetwork(Metrics metrics, const std::vector<InterfaceCounters>& network) {
  for (const InterfaceCounters& interface : network) {
    auto& out = *metrics.add_network();
    out.set_name(interface.name);
    out.set_rx_bytes(interface.received.bytes);
    out.set_rx_packets(interface.received.packets);
    out.set_rx_errors(interface.received.errors);
    out.set_rx_dropped(interface.received.dropped);
    out.set_tx_bytes(interface.sent.bytes);
    out.set_tx_packets(interface.sent.packets);
    out.set_tx_errors(interface.sent.errors);
    out.set_tx_dropped(interface.sent.dropped);
  }
  return metrics;
}

}  // namespace

CgroupMode HostCgroupMode(const std::string& root) {
  struct statfs info {};
  const bool v2 = ::statfs(root.c_str(), &info) == 0 && info.f_type == CGROUP2_SUPER_MAGIC;
  return v2 ? CgroupMode::kV2 : CgroupMode::kV1;
}

google::protobuf::Any TaskMetrics(const pb::ContainerStatsResponse& stats,
                                  const std::vector<InterfaceCounters>& network, CgroupMode mode) {
  return mode == CgroupMode::kV1 ? PackAny(WithNetwork(ToV1(stats), network))
                                 : PackAny(WithNetwork(ToV2(stats), network));
}

}  // namespace bulkhead::shim
