// One interface of the pod's namespace, joined to a tap: what comes in at either goes out at the
// other, before the host's own stack sees it. The interface keeps its addresses, for engines to
// read, and answers nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/netlink.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "shim/network/netns_scan.h"

namespace bulkhead::shim {

class TapLink {
 public:
  // kAlreadyExists: a VM has it. `netlink` is of the namespace.
  // `queues`: 1 to 256.
  static Result<TapLink> Create(int netns, std::shared_ptr<Netlink> netlink,
                                const HostInterface& interface, size_t queues);
  TapLink(TapLink&&) noexcept = default;
  TapLink& operator=(TapLink&&) = delete;
  // Puts the interface back as it was. The tap goes with its last descriptor.
  ~TapLink();

  // Lets in what is for a name server of the namespace itself (answer_filter.h).
  Status AdmitAnswers();

  const HostInterface& interface() const { return interface_; }
  std::string name() const;  // of the tap
  // Its own: IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, and with several IFF_MULTI_QUEUE.
  const std::vector<UniqueFd>& queues() const { return queues_; }

 private:
  TapLink(std::shared_ptr<Netlink> netlink, HostInterface interface)
      : netlink_(std::move(netlink)), interface_(std::move(interface)) {}

  Status Join();
  Result<uint32_t> TapIndex();

  std::shared_ptr<Netlink> netlink_;  // null: moved from
  HostInterface interface_;
  std::vector<UniqueFd> queues_;
  bool owns_qdisc_ = false;
  bool owns_filter_ = false;
  bool admits_ = false;
};

}  // namespace bulkhead::shim
