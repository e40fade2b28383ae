// What /proc tells of a process.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "base/result.h"

namespace bulkhead::agent {

struct ProcessInfo {
  pid_t pid = 0;
  pid_t parent_pid = 0;
  pid_t container_pid = 0;  // in its innermost pid namespace
  uint32_t uid = 0;
  char state = '?';
  uint64_t cpu_ms = 0;
  uint64_t rss_bytes = 0;
  int64_t started_at_ns = 0;
  std::string command;
};

Result<ProcessInfo> ReadProcessInfo(pid_t pid);

}  // namespace bulkhead::agent
