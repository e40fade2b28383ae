#include "shim/network/tap_filters.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/pkt_sched.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstddef>
#include <map>
#include <thread>

#include "base/sys.h"
#include "shim/network/enter_netns.h"
#include "shim/network/link_setup.h"

namespace bulkhead::shim {
namespace {

// Beyond these it is no pod's namespace.
constexpr size_t kMaxLinks = 1024;
constexpr size_t kMaxFilters = 1024;
constexpr std::chrono::milliseconds kTapPause(20);
// Understood by the queueing disciplines `ingress` and `clsact` alike.
constexpr uint32_t kIngressParent = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS);

Status RemoveFilter(Netlink& netlink, uint32_t index, uint32_t priority) {
  const Status removed =
      netlink.Execute(NetlinkRequest(RTM_DELTFILTER, 0, FilterHeader(index, priority)));
  return !removed && removed.error().errnum() == ENOENT ? Status() : removed;
}

struct Device {
  uint32_t index = 0;
  std::string kind;
};

using Devices = std::map<std::string, Device>;  // by name

Result<Devices> Links(Netlink& netlink) {
  Devices links;
  const NetlinkRequest request(RTM_GETLINK, 0, ifinfomsg{});
  for (const NetlinkAnswer& answer : TRY(netlink.Dump(request, kMaxLinks))) {
    const auto link = answer.Attributes<ifinfomsg>();
    links[link.Text(IFLA_IFNAME)] = {static_cast<uint32_t>(answer.As<ifinfomsg>().ifi_index),
                                     link.Nested(IFLA_LINKINFO).Text(IFLA_INFO_KIND)};
  }
  return links;
}

Status RemoveStaleRedirect(Netlink& netlink, uint32_t index) {
  tcmsg every = FilterHeader(index);
  every.tcm_info = 0;
  bool ours = false;
  bool others = false;
  for (const NetlinkAnswer& answer :
       TRY(netlink.Dump(NetlinkRequest(RTM_GETTFILTER, 0, every), kMaxFilters))) {
    const uint32_t priority = TC_H_MAJ(answer.As<tcmsg>().tcm_info) >> 16U;
    const bool is_ours = priority == kRedirectPriority || priority == kAnswersPriority;
    (is_ours ? ours : others) = true;
  }
  if (ours) {
    TRY(RemoveFilters(netlink, index));
  }
  if (ours && !others) {
    // Refused when it is `clsact`, which is not of our making.
    (void)netlink.Execute(IngressRequest(RTM_DELQDISC, 0, index));
  }
  return {};
}

// What a VM has is claimed; taps go by themselves.
Status RemoveStale(int netns, Netlink& netlink, const std::string& name, const Device& device) {
  const bool is_ours = name.starts_with(kTapPrefix);
  if (is_ours && device.kind != "macvtap") {
    return {};
  }
  const std::string claimed = is_ours ? name : DeviceName(device.index);
  const auto claim = InNetns(netns, [&] { return ClaimDevice(claimed); });
  if (!claim) {
    return claim.error().code() == ErrorCode::kAlreadyExists ? Status()
                                                             : tl::unexpected(claim.error());
  }
  return is_ours ? RemoveLink(netlink, device.index) : RemoveStaleRedirect(netlink, device.index);
}

// Its daemon is gone, its QEMU not yet.
bool HasDyingTap(int netns, const Devices& links) {
  return std::any_of(links.begin(), links.end(), [&](const auto& entry) {
    return entry.first.starts_with(kTapPrefix) && entry.second.kind == "tun" &&
           InNetns(netns, [&] { return ClaimDevice(entry.first); });
  });
}

}  // namespace

NetlinkRequest IngressRequest(uint16_t type, uint16_t flags, uint32_t index) {
  tcmsg header{};
  header.tcm_family = AF_UNSPEC;
  header.tcm_ifindex = static_cast<int>(index);
  header.tcm_handle = TC_H_MAKE(TC_H_INGRESS, 0);
  header.tcm_parent = TC_H_INGRESS;
  NetlinkRequest request(type, flags, header);
  request.PutText(TCA_KIND, "ingress");
  return request;
}

tcmsg FilterHeader(uint32_t index, uint32_t priority) {
  tcmsg header{};
  header.tcm_family = AF_UNSPEC;
  header.tcm_ifindex = static_cast<int>(index);
  header.tcm_parent = kIngressParent;
  header.tcm_info = TC_H_MAKE(priority << 16U, htons(ETH_P_ALL));
  return header;
}

Status RemoveFilters(Netlink& netlink, uint32_t index) {
  TRY(RemoveFilter(netlink, index, kAnswersPriority));
  return RemoveFilter(netlink, index, kRedirectPriority);
}

Result<UniqueFd> ClaimDevice(const std::string& name) {
  UniqueFd claim(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  TRY(sys::CheckCall(claim.get(), "socket"));
  // An abstract name: of this network namespace, and gone with the socket.
  const std::string text = "bulkhead/" + name;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  text.copy(&address.sun_path[1], sizeof(address.sun_path) - 1);
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
  const Status bound = sys::CheckCall(
      ::bind(claim.get(), reinterpret_cast<const sockaddr*>(&address), size), "bind");
  if (!bound && bound.error().errnum() == EADDRINUSE) {
    return MakeError(ErrorCode::kAlreadyExists, "a VM has it already");
  }
  TRY(bound);
  return claim;
}

Status RemoveStaleFilters(const std::string& netns, std::chrono::milliseconds patience) {
  const auto opened = sys::Open(netns, O_RDONLY);
  if (!opened) {
    return {};
  }
  if (TRY_AS(IsOwnNetns(opened->get()), "network namespace {}", netns)) {
    return {};  // a pod in the host's network has nothing there
  }
  Netlink netlink =
      TRY_AS(InNetns(opened->get(), [] { return Netlink::Open(); }), "network namespace {}", netns);
  const auto deadline = std::chrono::steady_clock::now() + patience;
  auto links = TRY_AS(Links(netlink), "network namespace {}", netns);
  while (HasDyingTap(opened->get(), links) && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(kTapPause);
    links = TRY_AS(Links(netlink), "network namespace {}", netns);
  }
  for (const auto& [name, device] : links) {
    TRY_AS(RemoveStale(opened->get(), netlink, name, device), "network namespace {}: interface {}",
           netns, name);
  }
  return {};
}

}  // namespace bulkhead::shim
