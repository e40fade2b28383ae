#include "hypervisor/nic.h"

#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>

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

Status CheckTap(int tap) {
  ifreq request{};
  TRY(sys::CheckCall(::ioctl(tap, TUNGETIFF, &request), "the tap: TUNGETIFF"));
  constexpr int kWanted = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  if ((request.ifr_flags & kWanted) != kWanted) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "{} is not a tap without packet information and with virtio's header",
                     request.ifr_name);
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
  return CheckTap(nic.tap.get());
}

}  // namespace

std::string FormatMac(const MacAddress& mac) {
  return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", mac[0], mac[1], mac[2], mac[3],
                     mac[4], mac[5]);
}

Status CheckNic(const NicConfig& nic) {
  TRY(CheckId(nic.id));
  TRY_AS(CheckValues(nic), "NIC {}", nic.id);
  return {};
}

}  // namespace bulkhead::hypervisor
