// What the files of a control group (v2) count.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace bulkhead::agent {

// The same as ContainerStatsResponse of agent.proto.
struct CgroupStats {
  static constexpr uint64_t kUnlimited = std::numeric_limits<uint64_t>::max();

  using Counters = std::map<std::string, uint64_t>;
  struct Io {
    uint64_t major = 0;
    uint64_t minor = 0;
    uint64_t rbytes = 0;
    uint64_t wbytes = 0;
    uint64_t rios = 0;
    uint64_t wios = 0;
  };
  struct HugeTlb {
    std::string page_size;
    uint64_t current = 0;
    uint64_t max = kUnlimited;
    uint64_t failures = 0;
  };

  uint64_t pids_current = 0;
  uint64_t pids_max = kUnlimited;
  Counters cpu;
  uint64_t memory_current = 0;
  uint64_t memory_max = kUnlimited;
  uint64_t memory_peak = 0;
  uint64_t swap_current = 0;
  uint64_t swap_max = kUnlimited;
  Counters memory;
  Counters memory_events;
  std::vector<Io> io;
  std::vector<HugeTlb> hugetlb;
};

// Of the cgroup's folder. A file that the kernel does not have counts nothing and limits nothing.
Result<CgroupStats> ReadCgroupStats(const std::string& cgroup);

// How often the OOM killer struck in the cgroup or below.
uint64_t CountOomKills(const std::string& cgroup);

// "NAME COUNT" a line.
CgroupStats::Counters ParseCounters(std::string_view text);
// io.stat: "MAJOR:MINOR rbytes=N wbytes=N rios=N wios=N ..." a line.
std::vector<CgroupStats::Io> ParseIo(std::string_view text);

}  // namespace bulkhead::agent
