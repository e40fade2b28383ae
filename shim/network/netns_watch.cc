#include "shim/network/netns_watch.h"

#include <poll.h>

#include <array>
#include <chrono>

#include "base/sys.h"
#include "shim/network/enter_netns.h"

namespace bulkhead::shim {
namespace {

constexpr uint32_t kIpv6Rule = 1U << (RTNLGRP_IPV6_RULE - 1);  // which has no older name
constexpr uint32_t kGroups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR |
                             RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE | RTMGRP_IPV4_RULE | kIpv6Rule |
                             RTMGRP_NEIGH;
// An engine makes an interface in several steps; and at most so often.
constexpr std::chrono::milliseconds kTogether(100);
constexpr std::chrono::milliseconds kAtOnce(0);

}  // namespace

Result<std::unique_ptr<NetnsWatch>> NetnsWatch::Start(int netns, OnChange on_change) {
  Netlink netlink = TRY(InNetns(netns, [] { return Netlink::Open(kGroups); }));
  UniqueFd stop = TRY(sys::EventFd());
  std::unique_ptr<NetnsWatch> watch(
      new NetnsWatch(std::move(netlink), std::move(stop), std::move(on_change)));
  watch->thread_ =
      std::jthread([self = watch.get()](const std::stop_token& stopped) { self->Watch(stopped); });
  return watch;
}

NetnsWatch::~NetnsWatch() {
  thread_.request_stop();
  const uint64_t one = 1;
  (void)sys::Write(stop_.get(), std::as_bytes(std::span(&one, 1)));
}

void NetnsWatch::Watch(const std::stop_token& stopped) {
  while (!stopped.stop_requested()) {
    std::array<pollfd, 2> events{pollfd{netlink_.fd(), POLLIN, 0}, pollfd{stop_.get(), POLLIN, 0}};
    if (::poll(events.data(), events.size(), -1) <= 0) {
      continue;
    }
    // The rest of it, unless the end comes first.
    (void)::poll(&events[1], 1, static_cast<int>(kTogether.count()));
    if (stopped.stop_requested() || !netlink_.AwaitNews(kAtOnce)) {
      return;
    }
    on_change_();
  }
}

}  // namespace bulkhead::shim
