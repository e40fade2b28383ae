#include "shim/network/macvtap_link.h"

#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>

#include <charconv>

#include "base/sys.h"
#include "shim/network/enter_netns.h"
#include "shim/network/link_setup.h"

namespace bulkhead::shim {
namespace {

constexpr size_t kMaxDeviceText = 64;

// All frames of the interface, whoever they are for.
NetlinkRequest NewMacvtap(const std::string& name, uint32_t parent) {
  NetlinkRequest request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, ifinfomsg{});
  request.PutText(IFLA_IFNAME, name);
  request.PutValue(IFLA_LINK, parent);
  const size_t info = request.Begin(IFLA_LINKINFO);
  request.PutText(IFLA_INFO_KIND, "macvtap");
  const size_t data = request.Begin(IFLA_INFO_DATA);
  request.PutValue(IFLA_MACVLAN_MODE, uint32_t{MACVLAN_MODE_PASSTHRU});
  request.End(data);
  request.End(info);
  return request;
}

// "240:1"
Result<dev_t> ParseDevice(const std::string& text) {
  unsigned numbers[2] = {0, 0};
  const char* end = text.data() + text.size();
  const auto first = std::from_chars(text.data(), end, numbers[0]);
  if (first.ec != std::errc() || first.ptr == end || *first.ptr != ':' ||
      std::from_chars(first.ptr + 1, end, numbers[1]).ec != std::errc()) {
    return MakeError(ErrorCode::kInternal, "\"{}\" is no device number", text);
  }
  return makedev(numbers[0], numbers[1]);
}

// Names in /dev are those of every network namespace at once: the device is found by the number
// that this namespace's sysfs tells. In a mount namespace of the calling thread, which is in the
// network namespace and ends soon.
Result<std::vector<UniqueFd>> OpenQueues(const std::string& name, uint32_t index, size_t count) {
  TRY(sys::Unshare(CLONE_NEWNS));
  TRY(sys::Mount("", "/", "", MS_REC | MS_PRIVATE));
  TRY(sys::Mount("sysfs", "/sys", "sysfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC));
  const std::string number =
      TRY(sys::ReadFile(fmt::format("/sys/class/net/{}/tap{}/dev", name, index), kMaxDeviceText));
  TRY(sys::Mount("tmpfs", "/sys", "tmpfs", MS_NOSUID | MS_NOEXEC));
  const std::string node = "/sys/tap";
  TRY(sys::Mknod(node, S_IFCHR | 0600, TRY(ParseDevice(number))));
  std::vector<UniqueFd> queues;
  while (queues.size() < count) {
    queues.push_back(TRY(OpenQueue(node, "", count > 1 ? IFF_MULTI_QUEUE : 0)));
  }
  return queues;
}

}  // namespace

bool MacvtapLink::CanServe(const HostInterface& interface) {
  return interface.kind.empty() || interface.kind == "veth";
}

Result<MacvtapLink> MacvtapLink::Create(int netns, std::shared_ptr<Netlink> netlink,
                                        const HostInterface& interface, size_t queues) {
  const std::string context = fmt::format("interface {}: macvtap", interface.name);
  const std::string name = DeviceName(interface.index);
  UniqueFd claim = TRY_AS(InNetns(netns, [&] { return ClaimDevice(name); }), "{}", context);
  MacvtapLink link(std::move(netlink), interface, std::move(claim));
  TRY_AS(link.Make(), "{}", context);
  link.queues_ =
      TRY_AS(InNetns(netns, [&] { return OpenQueues(name, link.index_, queues); }), "{}", context);
  return link;
}

Status MacvtapLink::Make() {
  if (const auto old = IndexOfLink(*netlink_, name())) {
    TRY(RemoveLink(*netlink_, *old));
  }
  TRY(netlink_->Execute(NewMacvtap(name(), interface_.index)));
  index_ = TRY(IndexOfLink(*netlink_, name()));
  TRY_AS(SilenceIpv6(*netlink_, index_), "IPv6");
  TRY_AS(BringUp(*netlink_, index_, interface_.mtu), "up");
  return {};
}

Status MacvtapLink::AdmitAnswers() {
  return MakeError(ErrorCode::kUnimplemented,
                   "interface {}: answers of names are not let in where network.model is "
                   "\"macvtap\"",
                   interface_.name);
}

MacvtapLink::~MacvtapLink() {
  // What fails, fails because the interface or its namespace is gone.
  queues_.clear();
  if (netlink_ && index_ != 0) {
    (void)RemoveLink(*netlink_, index_);
  }
}

}  // namespace bulkhead::shim
