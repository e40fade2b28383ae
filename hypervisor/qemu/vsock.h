// The host's side of a guest's AF_VSOCK.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>

#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead::hypervisor::qemu {

struct GuestVsock {
  UniqueFd device;  // /dev/vhost-vsock: the CID is the guest's as long as it is open
  uint32_t cid = 0;
};

// Takes a free CID, by chance: other programs take some too.
Result<GuestVsock> AllocateVsock();

// Tries until the guest listens. `interrupted` is asked between two attempts: an error ends it.
Result<UniqueFd> ConnectVsock(uint32_t cid, uint32_t port,
                              std::chrono::steady_clock::time_point deadline,
                              const std::function<Status()>& interrupted);

}  // namespace bulkhead::hypervisor::qemu
