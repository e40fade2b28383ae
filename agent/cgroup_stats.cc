#include "agent/cgroup_stats.h"

#include <array>
#include <charconv>
#include <sstream>
#include <utility>

#include "base/sys.h"

namespace bulkhead::agent {
namespace {

uint64_t ParseNumber(std::string_view text) {
  uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

std::string ReadOrEmpty(const std::string& path) { return sys::ReadFile(path).value_or(""); }

uint64_t ReadCount(const std::string& path) { return ParseNumber(ReadOrEmpty(path)); }

uint64_t ReadLimit(const std::string& path) {
  const std::string text = ReadOrEmpty(path);
  return text.empty() || text.starts_with("max") ? CgroupStats::kUnlimited : ParseNumber(text);
}

uint64_t CountOf(const CgroupStats::Counters& counters, const char* name) {
  const auto found = counters.find(name);
  return found == counters.end() ? 0 : found->second;
}

// hugetlb.SIZE.current; the ".rsvd" ones are another count.
std::vector<CgroupStats::HugeTlb> ReadHugeTlb(const std::string& cgroup,
                                              const std::vector<std::string>& files) {
  constexpr std::string_view kPrefix = "hugetlb.";
  constexpr std::string_view kSuffix = ".current";
  std::vector<CgroupStats::HugeTlb> out;
  for (const std::string& file : files) {
    if (!file.starts_with(kPrefix) || !file.ends_with(kSuffix)) {
      continue;
    }
    const std::string size =
        file.substr(kPrefix.size(), file.size() - kPrefix.size() - kSuffix.size());
    if (size.find('.') != std::string::npos) {
      continue;
    }
    const std::string base = fmt::format("{}/{}{}", cgroup, kPrefix, size);
    const auto events = ParseCounters(ReadOrEmpty(base + ".events"));
    out.push_back(
        {size, ReadCount(base + ".current"), ReadLimit(base + ".max"), CountOf(events, "max")});
  }
  return out;
}

}  // namespace

CgroupStats::Counters ParseCounters(std::string_view text) {
  CgroupStats::Counters out;
  std::istringstream lines{std::string(text)};
  std::string name;
  uint64_t count = 0;
  while (lines >> name >> count) {
    out[name] = count;
  }
  return out;
}

std::vector<CgroupStats::Io> ParseIo(std::string_view text) {
  constexpr std::array kFields{
      std::pair{std::string_view("rbytes"), &CgroupStats::Io::rbytes},
      std::pair{std::string_view("wbytes"), &CgroupStats::Io::wbytes},
      std::pair{std::string_view("rios"), &CgroupStats::Io::rios},
      std::pair{std::string_view("wios"), &CgroupStats::Io::wios},
  };
  std::vector<CgroupStats::Io> out;
  std::istringstream words{std::string(text)};
  // Word by word: some kernels put two devices on one line when the first has no counts.
  for (std::string word; words >> word;) {
    const std::string_view view = word;
    const size_t equals = view.find('=');
    const size_t colon = view.find(':');
    if (equals == std::string_view::npos && colon != std::string_view::npos) {
      CgroupStats::Io& io = out.emplace_back();
      io.major = ParseNumber(view.substr(0, colon));
      io.minor = ParseNumber(view.substr(colon + 1));
      continue;
    }
    for (const auto& [name, field] : kFields) {
      if (!out.empty() && view.substr(0, equals) == name) {
        out.back().*field = ParseNumber(view.substr(equals + 1));
      }
    }
  }
  return out;
}

Result<CgroupStats> ReadCgroupStats(const std::string& cgroup) {
  const auto files = TRY_AS(sys::ListDirectory(cgroup), "cgroup");
  CgroupStats stats;
  stats.pids_current = ReadCount(cgroup + "/pids.current");
  stats.pids_max = ReadLimit(cgroup + "/pids.max");
  stats.cpu = ParseCounters(ReadOrEmpty(cgroup + "/cpu.stat"));
  stats.memory_current = ReadCount(cgroup + "/memory.current");
  stats.memory_max = ReadLimit(cgroup + "/memory.max");
  stats.memory_peak = ReadCount(cgroup + "/memory.peak");
  stats.swap_current = ReadCount(cgroup + "/memory.swap.current");
  stats.swap_max = ReadLimit(cgroup + "/memory.swap.max");
  stats.memory = ParseCounters(ReadOrEmpty(cgroup + "/memory.stat"));
  stats.memory_events = ParseCounters(ReadOrEmpty(cgroup + "/memory.events"));
  stats.io = ParseIo(ReadOrEmpty(cgroup + "/io.stat"));
  stats.hugetlb = ReadHugeTlb(cgroup, files);
  return stats;
}

uint64_t CountOomKills(const std::string& cgroup) {
  return CountOf(ParseCounters(ReadOrEmpty(cgroup + "/memory.events")), "oom_kill");
}

}  // namespace bulkhead::agent
