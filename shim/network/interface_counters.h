// What has passed through an interface of the pod, as the host's kernel has counted it.
#pragma once

#include <cstdint>
#include <string>

#include "base/netlink.h"
#include "base/result.h"

namespace bulkhead::shim {

struct InterfaceCounters {
  struct Direction {
    uint64_t bytes = 0;
    uint64_t packets = 0;
    uint64_t errors = 0;
    uint64_t dropped = 0;
  };
  std::string name;
  Direction received;  // by the pod
  Direction sent;
};

InterfaceCounters ParseCounters(const NetlinkAttributes& link);
// `netlink` is of its namespace.
Result<InterfaceCounters> ReadCounters(Netlink& netlink, uint32_t index);

}  // namespace bulkhead::shim
