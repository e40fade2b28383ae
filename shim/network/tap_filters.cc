#include "shim/network/tap_filters.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/pkt_sched.h>

#include <map>
#include <thread>

#include "base/sys.h"
#include "shim/network/enter_netns.h"

namespace bulkhead::shim {
namespace {

// Beyond these it is no pod's namespace.
constexpr size_t kMaxLinks = 1024;
constexpr size_t kMaxFilters = 1024;
constexpr std::chrono::milliseconds kTapPause(10);
// Understood by the queueing disciplines `ingress` and `clsact` alike.
constexpr uint32_t kIngressParent = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS);

Status RemoveFilter(Netlink& netlink, uint32_t index, uint32_t priority) {
  const Status removed =
      netlink.Execute(NetlinkRequest(RTM_DELTFILTER, 0, FilterHeader(index, priority)));
  return !removed && removed.error().errnum() == ENOENT ? Status() : removed;
}

using LinkIndexes = std::map<std::string, uint32_t>;

bool HasTap(const LinkIndexes& links) {
  const auto first = links.lower_bound(kTapPrefix);
  return first != links.end() && first->first.starts_with(kTapPrefix);
}

Result<LinkIndexes> Links(Netlink& netlink) {
  LinkIndexes links;
  const NetlinkRequest request(RTM_GETLINK, 0, ifinfomsg{});
  for (const NetlinkAnswer& answer : TRY(netlink.Dump(request, kMaxLinks))) {
    links[answer.Attributes<ifinfomsg>().Text(IFLA_IFNAME)] =
        static_cast<uint32_t>(answer.As<ifinfomsg>().ifi_index);
  }
  return links;
}

Status RemoveStale(Netlink& netlink, uint32_t index) {
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

Status RemoveStaleFilters(const std::string& netns, std::chrono::milliseconds patience) {
  const auto opened = sys::Open(netns, O_RDONLY);
  if (!opened) {
    return {};
  }
  Netlink netlink =
      TRY_AS(InNetns(opened->get(), [] { return Netlink::Open(); }), "network namespace {}", netns);
  const auto deadline = std::chrono::steady_clock::now() + patience;
  auto links = TRY_AS(Links(netlink), "network namespace {}", netns);
  while (HasTap(links) && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(kTapPause);
    links = TRY_AS(Links(netlink), "network namespace {}", netns);
  }
  for (const auto& [name, index] : links) {
    if (!name.starts_with(kTapPrefix) && !links.contains(fmt::format("{}{}", kTapPrefix, index))) {
      TRY_AS(RemoveStale(netlink, index), "network namespace {}: interface {}", netns, name);
    }
  }
  return {};
}

}  // namespace bulkhead::shim
