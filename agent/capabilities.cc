#include "agent/capabilities.h"

#include <linux/capability.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "base/sys.h"

namespace bulkhead::agent {
namespace {

// Names that are unknown here are skipped: the host has warned of them.
uint64_t ParseSet(const std::vector<std::string>& names) {
  uint64_t set = 0;
  for (const std::string& name : names) {
    std::string lower = name;
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](unsigned char c) { return std::tolower(c); });
    cap_value_t value = 0;
    if (lower.starts_with("cap_") && ::cap_from_name(lower.c_str(), &value) == 0) {
      set |= uint64_t{1} << static_cast<unsigned>(value);
    }
  }
  return set;
}

// Those that this kernel knows.
uint64_t KnownSet() {
  uint64_t known = 0;
  for (unsigned cap = 0; cap < 64 && ::prctl(PR_CAPBSET_READ, cap) >= 0; ++cap) {
    known |= uint64_t{1} << cap;
  }
  return known;
}

bool Has(uint64_t set, unsigned cap) { return (set >> cap & 1U) != 0; }

}  // namespace

CapabilitySets CapabilitySets::Parse(const std::optional<oci::Capabilities>& names) {
  CapabilitySets sets;
  if (names) {
    sets.bounding = ParseSet(names->bounding);
    sets.effective = ParseSet(names->effective);
    sets.inheritable = ParseSet(names->inheritable);
    sets.permitted = ParseSet(names->permitted);
    // Ambient needs both others: the kernel refuses the rest, runc drops it with a warning.
    sets.ambient = ParseSet(names->ambient) & sets.inheritable & sets.permitted;
  }
  return sets;
}

Status DropBoundingSet(const CapabilitySets& sets) {
  const uint64_t known = KnownSet();
  for (unsigned cap = 0; cap < 64; ++cap) {
    if (Has(known, cap) && !Has(sets.bounding, cap)) {
      TRY(sys::CheckCall(::prctl(PR_CAPBSET_DROP, cap), "drop capability {}", cap));
    }
  }
  return {};
}

Status SetCapabilities(const CapabilitySets& sets) {
  const uint64_t known = KnownSet();
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> data{};
  for (unsigned half = 0; half < 2; ++half) {
    const auto part = [&](uint64_t set) {
      return static_cast<uint32_t>((set & known) >> half * 32);
    };
    data[half] = {part(sets.effective), part(sets.permitted), part(sets.inheritable)};
  }
  TRY(sys::CheckCall(::syscall(SYS_capset, &header, data.data()), "capset"));
  TRY(sys::CheckCall(::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0),
                     "clear ambient capabilities"));
  for (unsigned cap = 0; cap < 64; ++cap) {
    if (Has(sets.ambient & known, cap)) {
      TRY(sys::CheckCall(::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0),
                         "raise ambient capability {}", cap));
    }
  }
  return {};
}

}  // namespace bulkhead::agent
