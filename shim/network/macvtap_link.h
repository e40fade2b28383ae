// An interface of the pod's namespace with a macvtap on top, which has its address and takes its
// frames: no traffic control is in between. What is for all (broadcasts, multicasts) the
// namespace's own stack sees as well. For what a macvtap can be put on: a veth, or a device.
#pragma once

#include <cstdint>
#include <memory>

#include "base/netlink.h"
#include "shim/network/frame_link.h"

namespace bulkhead::shim {

class MacvtapLink final : public FrameLink {
 public:
  static bool CanServe(const HostInterface& interface);
  // As TapLink's. What a process that was killed has left is replaced.
  static Result<MacvtapLink> Create(int netns, std::shared_ptr<Netlink> netlink,
                                    const HostInterface& interface, size_t queues);
  MacvtapLink(MacvtapLink&&) noexcept = default;
  ~MacvtapLink() override;

  // kUnimplemented: nothing can be taken out of its stream.
  Status AdmitAnswers() override;
  const char* model() const override { return "macvtap"; }

 private:
  MacvtapLink(std::shared_ptr<Netlink> netlink, const HostInterface& interface, UniqueFd claim)
      : FrameLink(interface, std::move(claim)), netlink_(std::move(netlink)) {}

  Status Make();

  std::shared_ptr<Netlink> netlink_;  // null: moved from
  uint32_t index_ = 0;                // of the macvtap; 0: not made
};

}  // namespace bulkhead::shim
