// A network interface that is plugged into a VM.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead::hypervisor {

using MacAddress = std::array<uint8_t, 6>;

// "02:00:00:00:00:01"
std::string FormatMac(const MacAddress& mac);

inline constexpr size_t kMaxNicQueues = 16;
inline constexpr size_t kMaxForwards = 1024;

// Frames that the guest sends come out of a tap.
struct TapBackend {
  // Of /dev/net/tun, with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR; with IFF_MULTI_QUEUE, too, and all
  // of one tap, if there are several.
  std::vector<UniqueFd> queues;
  // Of /dev/vhost-net, whose threads then carry the frames: one for each queue. None: QEMU does.
  std::vector<UniqueFd> vhost;
};

// Frames go over a stream socket to a process that has the other end, each after its length: 32
// bits, big-endian. That is passt's protocol.
struct StreamBackend {
  UniqueFd socket;
};

// QEMU itself (libslirp) makes connections of the host out of what the guest sends.
struct UserBackend {
  // A server of the guest that answers at the host, by IPv4.
  struct Forward {
    bool udp = false;
    std::string host_address;  // empty: all of the host's
    uint16_t host_port = 0;
    uint16_t guest_port = 0;
  };
  std::string network = "10.0.2.0/24";
  std::string gateway = "10.0.2.2";  // there the guest finds the host
  std::string dns = "10.0.2.3";      // and there the host's name server
  std::string guest = "10.0.2.15";
  // IPv6, of 64 bits; empty: the guest has none.
  std::string prefix6;
  std::string gateway6;
  std::string dns6;
  std::vector<Forward> forwards;
  // A group of cgroup v2 that QEMU is started in, for its sockets are those of the group that they
  // were made in. None: our own.
  UniqueFd cgroup;
};

struct NicConfig {
  std::string id;       // 1 to 20 of [A-Za-z0-9._-], unique in the VM
  MacAddress mac{};     // how the guest finds it: of one station, not of a group, not all zeros
  uint32_t mtu = 1500;  // 68 to 65535: the most that the guest's interface may have
  std::variant<TapBackend, StreamBackend, UserBackend> backend;
};

// A NIC with a tap of one queue. `vhost` may hold nothing.
NicConfig TapNic(std::string id, const MacAddress& mac, uint32_t mtu, UniqueFd tap, UniqueFd vhost);

// Why it cannot be one.
Status CheckNic(const NicConfig& nic);

}  // namespace bulkhead::hypervisor
