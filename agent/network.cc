#include "agent/network.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "agent/network_check.h"
#include "agent/network_kernel.h"
#include "base/sys.h"

namespace bulkhead::agent {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

Result<NetworkSettings> AwaitLinks(const Network& network, Netlink& socket, milliseconds timeout) {
  const auto deadline = steady_clock::now() + timeout;
  // Listens before it looks: nothing is missed in between.
  Netlink news = TRY(Netlink::Open(RTMGRP_LINK));
  for (;;) {
    auto settings = Resolve(network, TRY(ReadLinks(socket)));
    const auto left = std::chrono::ceil<milliseconds>(deadline - steady_clock::now());
    if (settings || settings.error().code() != ErrorCode::kNotFound) {
      return settings;
    }
    if (left <= milliseconds::zero()) {
      return tl::unexpected(std::move(settings).error().Wrap(
          fmt::format("waited {} s", std::chrono::ceil<std::chrono::seconds>(timeout).count())));
    }
    TRY(news.AwaitNews(left));
  }
}

Network NicsOf(const Network& network) {
  Network nics;
  std::copy_if(network.interfaces.begin(), network.interfaces.end(),
               std::back_inserter(nics.interfaces),
               [](const Interface& interface) { return !interface.vlan; });
  return nics;
}

// Those on top of others come one round later.
Status MakeVlans(const NetworkSettings& before, const Network& network, Netlink& socket) {
  for (size_t round = 0; round <= network.interfaces.size(); ++round) {
    const NetworkChanges changes = PlanVlans(before, network, TRY(ReadLinks(socket)));
    if (changes.empty()) {
      break;
    }
    for (const NetworkChange& change : changes) {
      TRY(ApplyChange(socket, change));
    }
  }
  return {};
}

// Leaves in `state` what is there then.
Status ApplyAll(Netlink& socket, const NetworkChanges& changes, NetworkState& state) {
  for (const NetworkChange& change : changes) {
    TRY(ApplyChange(socket, change));
  }
  if (!changes.empty()) {
    state = TRY(ReadNetwork(socket));
  }
  return {};
}

}  // namespace

// What containers set themselves stays, until the host says something new.
std::vector<std::string> PodNetwork::SetSysctls(const std::map<std::string, std::string>& wanted) {
  std::vector<std::string> failed;
  for (const auto& [name, value] : wanted) {
    const auto before = sysctls_.find(name);
    if ((before == sysctls_.end() || before->second != value) &&
        !sys::WriteExisting("/proc/sys/net/" + name, value)) {
      failed.push_back(name);
    }
  }
  sysctls_ = wanted;
  return failed;
}

Result<std::vector<std::string>> PodNetwork::Set(Network network, milliseconds timeout) {
  const Network checked = TRY(CheckNetwork(std::move(network)));
  const std::lock_guard lock(mutex_);
  Netlink socket = TRY(Netlink::Open());
  TRY(AwaitLinks(NicsOf(checked), socket, timeout));
  const Status made = MakeVlans(before_, checked, socket);
  const std::vector<Link> links = TRY(ReadLinks(socket));
  NetworkSettings vlans;
  vlans.links = VlansOf(checked, links);
  before_ = Union(vlans, before_);  // ours, whatever fails from here on
  TRY(made);
  NetworkSettings wanted = TRY(Resolve(checked, links));
  const NetworkSettings before = std::exchange(before_, Union(wanted, before_));
  NetworkState state = TRY(ReadNetwork(socket));
  TRY(ApplyAll(socket, PlanLinks(before, wanted, state), state));
  std::vector<std::string> failed = SetSysctls(checked.sysctls);
  TRY(ApplyAll(socket, PlanRemovals(before, wanted, state), state));
  TRY(ApplyAll(socket, PlanAddresses(wanted, state), state));
  for (const NetworkChange& change : PlanRoutes(before, wanted, state)) {
    TRY(ApplyChange(socket, change));
  }
  before_ = std::move(wanted);
  return failed;
}

}  // namespace bulkhead::agent
