#include "agent/process_list.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "base/sys.h"

namespace bulkhead::agent {
namespace {

constexpr size_t kMaxCommand = 4096;

int64_t ClockNs(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

Status ReadStat(const std::string& text, ProcessInfo& info) {
  // The name stands in brackets and may hold anything, brackets too.
  const size_t open = text.find('(');
  const size_t close = text.rfind(')');
  if (open == std::string::npos || close == std::string::npos) {
    return MakeError(ErrorCode::kInternal, "/proc/{}/stat: no name", info.pid);
  }
  info.command = "[" + text.substr(open + 1, close - open - 1) + "]";
  std::istringstream fields(text.substr(close + 1));
  std::string skipped;
  uint64_t user = 0;
  uint64_t system = 0;
  uint64_t start = 0;
  uint64_t rss_pages = 0;
  fields >> info.state >> info.parent_pid;
  for (int i = 5; i <= 13; ++i) {
    fields >> skipped;
  }
  fields >> user >> system;
  for (int i = 16; i <= 21; ++i) {
    fields >> skipped;
  }
  fields >> start >> skipped >> rss_pages;
  const auto ticks = static_cast<uint64_t>(::sysconf(_SC_CLK_TCK));
  info.cpu_ms = (user + system) * 1000 / ticks;
  info.rss_bytes = rss_pages * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  info.started_at_ns = ClockNs(CLOCK_REALTIME) - ClockNs(CLOCK_BOOTTIME) +
                       static_cast<int64_t>(start * (1'000'000'000 / ticks));
  return {};
}

void ReadStatus(const std::string& text, ProcessInfo& info) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string key;
    words >> key;
    if (key == "Uid:") {
      words >> info.uid;
    } else if (key == "NSpid:") {
      while (words >> info.container_pid) {
      }
    }
  }
}

}  // namespace

Result<ProcessInfo> ReadProcessInfo(pid_t pid) {
  const std::string folder = fmt::format("/proc/{}", pid);
  ProcessInfo info;
  info.pid = info.container_pid = pid;
  TRY(ReadStat(TRY(sys::ReadFile(folder + "/stat")), info));
  ReadStatus(TRY(sys::ReadFile(folder + "/status")), info);
  std::string arguments = sys::ReadFile(folder + "/cmdline").value_or("");
  while (!arguments.empty() && arguments.back() == '\0') {
    arguments.pop_back();
  }
  if (!arguments.empty()) {
    std::replace(arguments.begin(), arguments.end(), '\0', ' ');
    info.command = arguments.substr(0, kMaxCommand);
  }
  return info;
}

}  // namespace bulkhead::agent
