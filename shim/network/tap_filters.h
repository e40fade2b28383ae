// How what is ours in a pod's network namespace is known there, and taken away.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "base/netlink.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead::shim {

// Taps of ours are named after the interface that they serve: this, and its index.
inline constexpr char kTapPrefix[] = "bhtap";
inline std::string DeviceName(uint32_t interface) {
  return fmt::format("{}{}", kTapPrefix, interface);
}
// Ours among the filters of an interface: "BH".
inline constexpr uint32_t kRedirectPriority = 0x4248;
inline constexpr uint32_t kAnswersPriority = kRedirectPriority - 1;  // before it

// Of the queueing discipline `ingress`.
NetlinkRequest IngressRequest(uint16_t type, uint16_t flags, uint32_t index);
tcmsg FilterHeader(uint32_t index, uint32_t priority = kRedirectPriority);
Status RemoveFilters(Netlink& netlink, uint32_t index);

// Says that the device of this name is a VM's, for as long as the descriptor is open, in the
// namespace of the calling thread. kAlreadyExists: it is.
Result<UniqueFd> ClaimDevice(const std::string& name);

// Takes away what daemons left that were killed: filters that lead to a tap that is gone, and the
// queueing discipline that nobody else's filters are in; macvtaps. What is claimed stays as it is,
// and so does the caller's own namespace. One that is not there any more needs nothing. A VM whose
// daemon is gone gets `patience` to end.
Status RemoveStaleFilters(const std::string& netns, std::chrono::milliseconds patience);

}  // namespace bulkhead::shim
