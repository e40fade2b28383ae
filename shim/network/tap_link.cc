#include "shim/network/tap_link.h"

#include <arpa/inet.h>
#include <linux/if.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/tc_act/tc_mirred.h>

#include <algorithm>
#include <array>

#include "base/sys.h"
#include "shim/network/answer_filter.h"
#include "shim/network/enter_netns.h"
#include "shim/network/link_setup.h"
#include "shim/network/tap_filters.h"

namespace bulkhead::shim {
namespace {

constexpr char kTun[] = "/dev/net/tun";
constexpr uint32_t kMaxTapMtu = 65535 - ETH_HLEN;  // as the kernel has it

// A new one: it goes with the last of its queues.
Result<std::vector<UniqueFd>> OpenTap(const std::string& name, size_t count) {
  const int several = count > 1 ? IFF_MULTI_QUEUE : 0;
  std::vector<UniqueFd> queues;
  queues.push_back(TRY(OpenQueue(kTun, name, several | IFF_TUN_EXCL)));
  while (queues.size() < count) {
    queues.push_back(TRY(OpenQueue(kTun, name, several)));
  }
  return queues;
}

// False when there is one already: somebody else's, or of a pod whose end came too fast.
Result<bool> AddQdisc(Netlink& netlink, uint32_t index) {
  const Status added =
      netlink.Execute(IngressRequest(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, index));
  if (!added && added.error().errnum() == EEXIST) {
    return false;
  }
  TRY_AS(added, "ingress");
  return true;
}

Status AddProgram(Netlink& netlink, uint32_t index, int program) {
  NetlinkRequest request(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL,
                         FilterHeader(index, kAnswersPriority));
  request.PutText(TCA_KIND, "bpf");
  const size_t options = request.Begin(TCA_OPTIONS);
  request.PutValue(TCA_BPF_FD, static_cast<uint32_t>(program));
  request.PutText(TCA_BPF_NAME, "bulkhead-answers");
  request.PutValue(TCA_BPF_FLAGS, uint32_t{TCA_BPF_FLAG_ACT_DIRECT});
  request.End(options);
  return netlink.Execute(request);
}

// All that comes in at `from` goes out at `to`. u32, because not every kernel has matchall.
Status Redirect(Netlink& netlink, uint32_t from, uint32_t to) {
  NetlinkRequest request(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, FilterHeader(from));
  request.PutText(TCA_KIND, "u32");
  const size_t options = request.Begin(TCA_OPTIONS);
  // With one key, no bits of which count.
  std::array<std::byte, sizeof(tc_u32_sel) + sizeof(tc_u32_key)> everything{};
  tc_u32_sel selector{};
  selector.flags = TC_U32_TERMINAL;
  selector.nkeys = 1;
  std::memcpy(everything.data(), &selector, sizeof(selector));
  request.PutValue(TCA_U32_SEL, everything);
  const size_t actions = request.Begin(TCA_U32_ACT);
  const size_t action = request.Begin(1);  // its place in the row
  request.PutText(TCA_ACT_KIND, "mirred");
  const size_t action_options = request.Begin(TCA_ACT_OPTIONS);
  tc_mirred redirect{};
  redirect.action = TC_ACT_STOLEN;
  redirect.eaction = TCA_EGRESS_REDIR;
  redirect.ifindex = to;
  request.PutValue(TCA_MIRRED_PARMS, redirect);
  for (const size_t begin : {action_options, action, actions, options}) {
    request.End(begin);
  }
  return netlink.Execute(request);
}

}  // namespace

Result<TapLink> TapLink::Create(int netns, std::shared_ptr<Netlink> netlink,
                                const HostInterface& interface, size_t queues) {
  const std::string name = DeviceName(interface.index);
  const std::string context = fmt::format("interface {}: tap", interface.name);
  UniqueFd claim = TRY_AS(InNetns(netns, [&] { return ClaimDevice(name); }), "{}", context);
  TapLink link(std::move(netlink), interface, std::move(claim));
  link.queues_ = TRY_AS(InNetns(netns, [&] { return OpenTap(name, queues); }), "{}", context);
  TRY_AS(link.Join(), "interface {}", interface.name);
  return link;
}

Status TapLink::Join() {
  const uint32_t tap = TRY_AS(IndexOfLink(*netlink_, name()), "tap");
  TRY_AS(SilenceIpv6(*netlink_, tap), "tap: IPv6");
  TRY_AS(BringUp(*netlink_, tap, std::min(interface_.mtu, kMaxTapMtu)), "tap: up");
  TRY_AS(AddQdisc(*netlink_, tap), "tap");
  TRY_AS(Redirect(*netlink_, tap, interface_.index), "tap: redirect");
  owns_qdisc_ = TRY(AddQdisc(*netlink_, interface_.index));
  // One is left when a pod's end came too fast; the tap it leads to is gone, else ours were
  // refused.
  TRY_AS(RemoveFilters(*netlink_, interface_.index), "remove an old redirect");
  TRY_AS(Redirect(*netlink_, interface_.index, tap), "redirect");
  owns_filter_ = true;
  return {};
}

Status TapLink::AdmitAnswers() {
  if (!admits_) {
    const UniqueFd program = TRY(LoadAnswerFilter(TRY(IndexOfLink(*netlink_, name()))));
    TRY_AS(AddProgram(*netlink_, interface_.index, program.get()), "interface {}: answers of names",
           interface_.name);
    admits_ = true;
  }
  return {};
}

TapLink::~TapLink() {
  // What fails, fails because the interface or its namespace is gone.
  if (netlink_ && owns_filter_) {
    (void)RemoveFilters(*netlink_, interface_.index);
  }
  if (netlink_ && owns_qdisc_) {
    (void)netlink_->Execute(IngressRequest(RTM_DELQDISC, 0, interface_.index));
  }
}

}  // namespace bulkhead::shim
