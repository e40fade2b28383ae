// An interface of the pod's namespace joined to a tap by traffic control: what comes in at either
// goes out at the other, before the host's own stack sees it.
#pragma once

#include <cstdint>
#include <memory>

#include "base/netlink.h"
#include "shim/network/frame_link.h"

namespace bulkhead::shim {

class TapLink final : public FrameLink {
 public:
  // kAlreadyExists: a VM has it. `netlink` is of the namespace. `queues`: 1 to 256.
  static Result<TapLink> Create(int netns, std::shared_ptr<Netlink> netlink,
                                const HostInterface& interface, size_t queues);
  TapLink(TapLink&&) noexcept = default;
  // The tap goes with its last descriptor.
  ~TapLink() override;

  Status AdmitAnswers() override;
  const char* model() const override { return "tc"; }

 private:
  TapLink(std::shared_ptr<Netlink> netlink, const HostInterface& interface, UniqueFd claim)
      : FrameLink(interface, std::move(claim)), netlink_(std::move(netlink)) {}

  Status Join();

  std::shared_ptr<Netlink> netlink_;  // null: moved from
  bool owns_qdisc_ = false;
  bool owns_filter_ = false;
  bool admits_ = false;
};

}  // namespace bulkhead::shim
