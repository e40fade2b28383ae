// Interfaces that come and go while a pod runs (docker network connect, Multus).
#pragma once

#include <functional>
#include <memory>
#include <stop_token>
#include <thread>

#include "base/netlink.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead::shim {

class NetnsWatch {
 public:
  using OnChange = std::function<void()>;

  // Calls it, in a thread of its own, soon after interfaces, addresses, routes, rules or neighbours
  // have changed; once for what comes together. Its own changes are told to it as well.
  static Result<std::unique_ptr<NetnsWatch>> Start(int netns, OnChange on_change);
  ~NetnsWatch();  // waits for a call that is under way
  NetnsWatch(const NetnsWatch&) = delete;
  NetnsWatch& operator=(const NetnsWatch&) = delete;

 private:
  NetnsWatch(Netlink netlink, UniqueFd stop, OnChange on_change)
      : netlink_(std::move(netlink)), stop_(std::move(stop)), on_change_(std::move(on_change)) {}
  void Watch(const std::stop_token& stopped);

  Netlink netlink_;  // of the thread alone
  const UniqueFd stop_;
  const OnChange on_change_;
  std::jthread thread_;
};

}  // namespace bulkhead::shim
