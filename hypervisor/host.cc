#include "hypervisor/host.h"

#include <x86intrin.h>

#include <charconv>
#include <chrono>
#include <cmath>
#include <thread>

#include "base/sys.h"

namespace bulkhead::hypervisor {
namespace {

using Clock = std::chrono::steady_clock;

struct Sample {
  Clock::time_point time;
  uint64_t ticks = 0;
};

// The tightest of some brackets: a preemption between the two readings would spoil the rate.
Sample TakeSample() {
  Sample best;
  Clock::duration tightest = Clock::duration::max();
  for (int i = 0; i < 10; ++i) {
    const auto before = Clock::now();
    const uint64_t ticks = __rdtsc();
    const auto width = Clock::now() - before;
    if (width < tightest) {
      tightest = width;
      best = {before + width / 2, ticks};
    }
  }
  return best;
}

uint32_t MeasureTscKhz() {
  const std::string cpuinfo = sys::ReadFile("/proc/cpuinfo", 64U << 20U).value_or("");
  if (cpuinfo.find(" constant_tsc") == std::string::npos) {
    return 0;
  }
  const Sample first = TakeSample();
  std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const Sample second = TakeSample();
  const auto elapsed =
      std::chrono::duration_cast<std::chrono::nanoseconds>(second.time - first.time).count();
  const double khz =
      static_cast<double>(second.ticks - first.ticks) * 1e6 / static_cast<double>(elapsed);
  return khz > 1e5 && khz < 2e7 ? static_cast<uint32_t>(std::lround(khz)) : 0;
}

}  // namespace

uint64_t MemTotalBytes(std::string_view meminfo) {
  constexpr std::string_view kName = "MemTotal:";
  const size_t at = meminfo.find(kName);
  if (at == std::string_view::npos) {
    return 0;
  }
  std::string_view rest = meminfo.substr(at + kName.size());
  rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
  uint64_t kib = 0;
  std::from_chars(rest.data(), rest.data() + rest.size(), kib);
  return kib * 1024;
}

uint64_t HostMemoryBytes() { return MemTotalBytes(sys::ReadFile("/proc/meminfo").value_or("")); }

uint32_t HostTscKhz() {
  static const uint32_t khz = MeasureTscKhz();
  return khz;
}

}  // namespace bulkhead::hypervisor
