#include "hypervisor/nic.h"

#include <arpa/inet.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <string_view>

#include "base/sys.h"

namespace bulkhead::hypervisor {
namespace {

constexpr size_t kMaxId = 20;
constexpr uint32_t kMinMtu = 68;
constexpr uint32_t kMaxMtu = 65535;

Status CheckId(const std::string& id) {
  constexpr std::string_view kAllowed =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
  if (id.empty() || id.size() > kMaxId || id.find_first_not_of(kAllowed) != std::string::npos) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "NIC \"{}\": an id has 1 to {} letters, digits, dots, dashes or underscores",
                     id, kMaxId);
  }
  return {};
}

// Flags and name of what the descriptor is a queue of.
Result<ifreq> TapOf(const UniqueFd& queue) {
  ifreq request{};
  TRY(sys::CheckCall(::ioctl(queue.get(), TUNGETIFF, &request), "the tap: TUNGETIFF"));
  constexpr int kWanted = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  if ((request.ifr_flags & kWanted) != kWanted) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "{} is not a tap without packet information and with virtio's header",
                     request.ifr_name);
  }
  return request;
}

Status CheckBackend(const TapBackend& tap) {
  if (tap.queues.empty() || tap.queues.size() > kMaxNicQueues) {
    return MakeError(ErrorCode::kInvalidArgument, "a tap of {} queues: 1 to {} are possible",
                     tap.queues.size(), kMaxNicQueues);
  }
  if (!tap.vhost.empty() && tap.vhost.size() != tap.queues.size()) {
    return MakeError(ErrorCode::kInvalidArgument, "{} vhost descriptors for {} queues",
                     tap.vhost.size(), tap.queues.size());
  }
  const ifreq first = TRY(TapOf(tap.queues[0]));
  if (tap.queues.size() > 1 && (first.ifr_flags & IFF_MULTI_QUEUE) == 0) {
    return MakeError(ErrorCode::kInvalidArgument, "{} is a tap of one queue, not of {}",
                     first.ifr_name, tap.queues.size());
  }
  for (const UniqueFd& queue : tap.queues) {
    const ifreq other = TRY(TapOf(queue));
    if (std::string_view(other.ifr_name) != first.ifr_name) {
      return MakeError(ErrorCode::kInvalidArgument, "queues of two taps: {} and {}", first.ifr_name,
                       other.ifr_name);
    }
  }
  return {};
}

Status CheckBackend(const StreamBackend& stream) {
  int type = 0;
  socklen_t size = sizeof(type);
  TRY(sys::CheckCall(::getsockopt(stream.socket.get(), SOL_SOCKET, SO_TYPE, &type, &size),
                     "the socket: SO_TYPE"));
  if (type != SOCK_STREAM) {
    return MakeError(ErrorCode::kInvalidArgument, "its socket is not a stream");
  }
  return {};
}

Status CheckAddress(int family, const std::string& text) {
  in6_addr address{};
  if (::inet_pton(family, text.c_str(), &address) != 1) {
    return MakeError(ErrorCode::kInvalidArgument, "\"{}\" is not an {} address", text,
                     family == AF_INET ? "IPv4" : "IPv6");
  }
  return {};
}

Status CheckBackend(const UserBackend& user) {
  const size_t slash = user.network.find('/');
  for (const std::string& text :
       {user.network.substr(0, slash), user.gateway, user.dns, user.guest}) {
    TRY(CheckAddress(AF_INET, text));
  }
  constexpr std::string_view kDigits = "0123456789";
  const std::string bits = slash == std::string::npos ? "" : user.network.substr(slash + 1);
  if (bits.empty() || bits.size() > 2 || bits.find_first_not_of(kDigits) != std::string::npos) {
    return MakeError(ErrorCode::kInvalidArgument, "\"{}\" is not a network", user.network);
  }
  if (!user.prefix6.empty()) {
    for (const std::string& text : {user.prefix6, user.gateway6, user.dns6}) {
      TRY(CheckAddress(AF_INET6, text));
    }
  }
  if (user.forwards.size() > kMaxForwards) {
    return MakeError(ErrorCode::kInvalidArgument, "{} forwarded ports: at most {}",
                     user.forwards.size(), kMaxForwards);
  }
  for (const UserBackend::Forward& forward : user.forwards) {
    if (!forward.host_address.empty()) {
      TRY_AS(CheckAddress(AF_INET, forward.host_address), "port {}", forward.host_port);
    }
    if (forward.host_port == 0 || forward.guest_port == 0) {
      return MakeError(ErrorCode::kInvalidArgument, "port 0 cannot be forwarded");
    }
  }
  return {};
}

Status CheckValues(const NicConfig& nic) {
  if ((nic.mac[0] & 1U) != 0 || nic.mac == MacAddress{}) {
    return MakeError(ErrorCode::kInvalidArgument, "{} is not the address of one station",
                     FormatMac(nic.mac));
  }
  if (nic.mtu < kMinMtu || nic.mtu > kMaxMtu) {
    return MakeError(ErrorCode::kInvalidArgument, "an MTU of {} is not within {} and {}", nic.mtu,
                     kMinMtu, kMaxMtu);
  }
  return std::visit([](const auto& backend) { return CheckBackend(backend); }, nic.backend);
}

}  // namespace

std::string FormatMac(const MacAddress& mac) {
  return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", mac[0], mac[1], mac[2], mac[3],
                     mac[4], mac[5]);
}

NicConfig TapNic(std::string id, const MacAddress& mac, uint32_t mtu, UniqueFd tap,
                 UniqueFd vhost) {
  TapBackend backend;
  backend.queues.push_back(std::move(tap));
  if (vhost) {
    backend.vhost.push_back(std::move(vhost));
  }
  return {std::move(id), mac, mtu, std::move(backend)};
}

Status CheckNic(const NicConfig& nic) {
  TRY(CheckId(nic.id));
  TRY_AS(CheckValues(nic), "NIC {}", nic.id);
  return {};
}

}  // namespace bulkhead::hypervisor
