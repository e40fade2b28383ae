// The resources that `update` asks for.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"

namespace bulkhead::cli {

struct UpdateOptions {
  std::string resources;  // a file, or "-"; then all others are ignored
  std::optional<uint64_t> cpu_shares;
  std::optional<int64_t> cpu_quota;
  std::optional<uint64_t> cpu_period;
  std::optional<int64_t> cpu_rt_runtime;
  std::optional<uint64_t> cpu_rt_period;
  std::optional<uint64_t> cpu_burst;
  std::optional<int64_t> cpu_idle;
  std::optional<uint16_t> blkio_weight;
  std::optional<int64_t> pids_limit;
  std::string memory;  // "64m", "-1": no limit
  std::string memory_reservation;
  std::string memory_swap;
  std::string cpuset_cpus;
  std::string cpuset_mems;
  std::string l3_cache_schema;
  std::string mem_bw_schema;
};

// The linux.resources object of config.json.
Result<std::string> ResourcesOf(const UpdateOptions& options);

}  // namespace bulkhead::cli
