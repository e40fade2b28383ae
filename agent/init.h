// What PID 1 of the guest does before it serves, and how the guest ends.
//
// Kernel command line options of the agent:
//   bulkhead.channel=serial:NAME  the virtio-serial port called NAME (default: serial:agent)
//   bulkhead.channel=vsock:PORT   listen on AF_VSOCK; only the host (CID 2) is let in
//   bulkhead.debug                log more to the console
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/log.h"
#include "base/result.h"

namespace bulkhead::agent {

struct AgentOptions {
  enum class Channel { kSerial, kVsock };
  Channel channel = Channel::kSerial;
  std::string port_name = "agent";  // kSerial
  uint32_t port = 0;                // kVsock
  bool debug = false;
};

// Of the whole of /proc/cmdline; what is not ours is ignored.
Result<AgentOptions> ParseCommandLine(std::string_view text);

// Mounts proc, sysfs, devtmpfs, devpts, tmpfs and cgroup2, brings up lo, sets limits and sysctls.
// The phases are marked.
Status SetUpGuest(Timeline& timeline);

// What the host gives the guest.
Status SetClock(int64_t nanoseconds);
Status AddEntropy(std::string_view bytes);

// Syncs, unmounts what it can and powers off. Does not return.
[[noreturn]] void PowerOff();

// Since the kernel's start, in microseconds.
uint64_t MonotonicMicroseconds();

}  // namespace bulkhead::agent
