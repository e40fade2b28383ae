#include "agent/limits.h"

#include <sys/resource.h>

#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "base/sys.h"

namespace bulkhead::agent {
namespace {

using Row = std::pair<std::string_view, int>;

constexpr std::array kTypes{
    Row{"RLIMIT_AS", RLIMIT_AS},
    Row{"RLIMIT_CORE", RLIMIT_CORE},
    Row{"RLIMIT_CPU", RLIMIT_CPU},
    Row{"RLIMIT_DATA", RLIMIT_DATA},
    Row{"RLIMIT_FSIZE", RLIMIT_FSIZE},
    Row{"RLIMIT_LOCKS", RLIMIT_LOCKS},
    Row{"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},
    Row{"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE},
    Row{"RLIMIT_NICE", RLIMIT_NICE},
    Row{"RLIMIT_NOFILE", RLIMIT_NOFILE},
    Row{"RLIMIT_NPROC", RLIMIT_NPROC},
    Row{"RLIMIT_RSS", RLIMIT_RSS},
    Row{"RLIMIT_RTPRIO", RLIMIT_RTPRIO},
    Row{"RLIMIT_RTTIME", RLIMIT_RTTIME},
    Row{"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
    Row{"RLIMIT_STACK", RLIMIT_STACK},
};

Result<int> ParseRlimitType(const std::string& name) {
  for (const auto& [known, number] : kTypes) {
    if (known == name) {
      return number;
    }
  }
  return MakeError(ErrorCode::kInvalidArgument, "process.rlimits: unknown type \"{}\"", name);
}

Status SetRlimits(const std::vector<oci::Rlimit>& limits, bool of_processes) {
  for (const oci::Rlimit& limit : limits) {
    const int type = TRY(ParseRlimitType(limit.type));
    if ((type == RLIMIT_NPROC) != of_processes) {
      continue;
    }
    const rlimit value{limit.soft, limit.hard};
    TRY(sys::CheckCall(::setrlimit(static_cast<__rlimit_resource>(type), &value), "set {} to {}:{}",
                       limit.type, limit.soft, limit.hard));
  }
  return {};
}

}  // namespace

Status SetLimits(const oci::Process& process) {
  if (process.oom_score_adj) {
    TRY(SetOomScore(*process.oom_score_adj));
  }
  return SetRlimits(process.rlimits, false);
}

Status SetProcessLimit(const oci::Process& process) { return SetRlimits(process.rlimits, true); }

Status SetOomScore(int score) {
  return sys::WriteExisting("/proc/self/oom_score_adj", std::to_string(score));
}

}  // namespace bulkhead::agent
