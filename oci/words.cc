#include "oci/words.h"

#include <linux/sched.h>
#include <sys/personality.h>

#include <algorithm>
#include <charconv>
#include <limits>

namespace bulkhead::oci {
namespace {

template <typename T>
struct Word {
  std::string_view name;
  T value;
};

constexpr std::array kPolicies{
    Word<uint32_t>{"SCHED_OTHER", SCHED_NORMAL}, Word<uint32_t>{"SCHED_FIFO", SCHED_FIFO},
    Word<uint32_t>{"SCHED_RR", SCHED_RR},        Word<uint32_t>{"SCHED_BATCH", SCHED_BATCH},
    Word<uint32_t>{"SCHED_IDLE", SCHED_IDLE},    Word<uint32_t>{"SCHED_DEADLINE", SCHED_DEADLINE},
};

constexpr std::array kSchedulerFlags{
    Word<uint64_t>{"SCHED_FLAG_RESET_ON_FORK", SCHED_FLAG_RESET_ON_FORK},
    Word<uint64_t>{"SCHED_FLAG_RECLAIM", SCHED_FLAG_RECLAIM},
    Word<uint64_t>{"SCHED_FLAG_DL_OVERRUN", SCHED_FLAG_DL_OVERRUN},
    Word<uint64_t>{"SCHED_FLAG_KEEP_POLICY", SCHED_FLAG_KEEP_POLICY},
    Word<uint64_t>{"SCHED_FLAG_KEEP_PARAMS", SCHED_FLAG_KEEP_PARAMS},
    Word<uint64_t>{"SCHED_FLAG_UTIL_CLAMP_MIN", SCHED_FLAG_UTIL_CLAMP_MIN},
    Word<uint64_t>{"SCHED_FLAG_UTIL_CLAMP_MAX", SCHED_FLAG_UTIL_CLAMP_MAX},
};

// <linux/ioprio.h> is not C++.
constexpr std::array kIoClasses{
    Word<int>{"IOPRIO_CLASS_RT", 1},
    Word<int>{"IOPRIO_CLASS_BE", 2},
    Word<int>{"IOPRIO_CLASS_IDLE", 3},
};

constexpr std::array kDomains{
    Word<unsigned long>{"LINUX", PER_LINUX},
    Word<unsigned long>{"LINUX32", PER_LINUX32},
};

template <typename T, size_t N>
Result<T> Find(const std::array<Word<T>, N>& words, std::string_view name) {
  const auto found = std::find_if(words.begin(), words.end(),
                                  [&](const Word<T>& word) { return word.name == name; });
  if (found == words.end()) {
    return MakeError(ErrorCode::kInvalidArgument, "unknown word \"{}\"", name);
  }
  return found->value;
}

std::string_view Trim(std::string_view text) {
  const size_t first = text.find_first_not_of(' ');
  return first == std::string_view::npos
             ? ""
             : text.substr(first, text.find_last_not_of(' ') - first + 1);
}

Result<size_t> ParseCpu(std::string_view text) {
  size_t cpu = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), cpu);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) {
    return MakeError(ErrorCode::kInvalidArgument, "\"{}\" is no CPU number", text);
  }
  if (cpu >= CpuSet().size()) {
    return MakeError(ErrorCode::kInvalidArgument, "CPU {}: the last is {}", cpu,
                     CpuSet().size() - 1);
  }
  return cpu;
}

Status AddRange(std::string_view range, CpuSet& out) {
  const size_t dash = range.find('-');
  const size_t first = TRY(ParseCpu(range.substr(0, dash)));
  const size_t last =
      dash == std::string_view::npos ? first : TRY(ParseCpu(range.substr(dash + 1)));
  if (first > last) {
    return MakeError(ErrorCode::kInvalidArgument, "\"{}\" ends before it begins", range);
  }
  for (size_t cpu = first; cpu <= last; ++cpu) {
    out.set(cpu);
  }
  return {};
}

}  // namespace

Result<uint32_t> SchedulerPolicy(std::string_view name) { return Find(kPolicies, name); }

Result<uint64_t> SchedulerFlag(std::string_view name) { return Find(kSchedulerFlags, name); }

Result<int> IoPriorityClass(std::string_view name) { return Find(kIoClasses, name); }

Result<unsigned long> PersonalityDomain(std::string_view name) { return Find(kDomains, name); }

Result<CpuSet> ParseCpuList(std::string_view text) {
  CpuSet out;
  for (std::string_view rest = text; !rest.empty();) {
    const size_t comma = rest.find(',');
    if (const auto range = Trim(rest.substr(0, comma)); !range.empty()) {
      TRY(AddRange(range, out));
    }
    rest = comma == std::string_view::npos ? "" : rest.substr(comma + 1);
  }
  if (out.none()) {
    return MakeError(ErrorCode::kInvalidArgument, "no CPUs in \"{}\"", text);
  }
  return out;
}

Result<uint64_t> PageSizeBytes(std::string_view text) {
  uint64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  const std::string_view unit = text.substr(static_cast<size_t>(end - text.data()));
  const unsigned shift = unit == "KB" ? 10 : unit == "MB" ? 20 : unit == "GB" ? 30 : 0;
  if (error != std::errc() || text.front() == '0' || shift == 0 ||
      count > std::numeric_limits<uint64_t>::max() >> shift) {
    return MakeError(ErrorCode::kInvalidArgument, "\"{}\": expected a size such as 2MB", text);
  }
  return count << shift;
}

Result<std::string> SysctlPath(std::string_view name) {
  std::string path(name);
  const size_t separator = path.find_first_of("./");
  if (separator == std::string::npos || path[separator] == '.') {
    std::transform(path.begin(), path.end(), path.begin(), [](char c) {
      return c == '.' ? '/' : c == '/' ? '.' : c;
    });
  }
  const std::string framed = fmt::format("/{}/", path);
  for (const char* bad : {"//", "/./", "/../"}) {
    if (framed.find(bad) != std::string::npos) {
      return MakeError(ErrorCode::kInvalidArgument, "\"{}\" is no name of a kernel parameter",
                       name);
    }
  }
  return path;
}

const std::vector<std::string>& AllCapabilities() {
  static const std::vector<std::string> all{"CAP_CHOWN",
                                            "CAP_DAC_OVERRIDE",
                                            "CAP_DAC_READ_SEARCH",
                                            "CAP_FOWNER",
                                            "CAP_FSETID",
                                            "CAP_KILL",
                                            "CAP_SETGID",
                                            "CAP_SETUID",
                                            "CAP_SETPCAP",
                                            "CAP_LINUX_IMMUTABLE",
                                            "CAP_NET_BIND_SERVICE",
                                            "CAP_NET_BROADCAST",
                                            "CAP_NET_ADMIN",
                                            "CAP_NET_RAW",
                                            "CAP_IPC_LOCK",
                                            "CAP_IPC_OWNER",
                                            "CAP_SYS_MODULE",
                                            "CAP_SYS_RAWIO",
                                            "CAP_SYS_CHROOT",
                                            "CAP_SYS_PTRACE",
                                            "CAP_SYS_PACCT",
                                            "CAP_SYS_ADMIN",
                                            "CAP_SYS_BOOT",
                                            "CAP_SYS_NICE",
                                            "CAP_SYS_RESOURCE",
                                            "CAP_SYS_TIME",
                                            "CAP_SYS_TTY_CONFIG",
                                            "CAP_MKNOD",
                                            "CAP_LEASE",
                                            "CAP_AUDIT_WRITE",
                                            "CAP_AUDIT_CONTROL",
                                            "CAP_SETFCAP",
                                            "CAP_MAC_OVERRIDE",
                                            "CAP_MAC_ADMIN",
                                            "CAP_SYSLOG",
                                            "CAP_WAKE_ALARM",
                                            "CAP_BLOCK_SUSPEND",
                                            "CAP_AUDIT_READ",
                                            "CAP_PERFMON",
                                            "CAP_BPF",
                                            "CAP_CHECKPOINT_RESTORE"};
  return all;
}

}  // namespace bulkhead::oci
