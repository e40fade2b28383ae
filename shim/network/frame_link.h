// One interface of the pod's namespace, whose frames a VM gets and gives by descriptors: by a tap
// (tap_link.h) or by a macvtap (macvtap_link.h). The interface keeps its addresses, for engines to
// read, and answers nothing. The destructor puts it back as it was.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "shim/network/netns_scan.h"

namespace bulkhead::shim {

class FrameLink {
 public:
  virtual ~FrameLink() = default;
  FrameLink& operator=(FrameLink&&) = delete;
  // Lets in what is for a name server of the namespace itself (answer_filter.h).
  virtual Status AdmitAnswers() = 0;
  virtual const char* model() const = 0;  // "tc", "macvtap"

  const HostInterface& interface() const { return interface_; }
  // Of the device that the VM has: kTapPrefix and the interface's index.
  std::string name() const { return DeviceName(interface_.index); }
  // Its own: IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, and with several IFF_MULTI_QUEUE.
  const std::vector<UniqueFd>& queues() const { return queues_; }

 protected:
  FrameLink(HostInterface interface, UniqueFd claim)
      : claim_(std::move(claim)), interface_(std::move(interface)) {}
  FrameLink(FrameLink&&) noexcept = default;

  UniqueFd claim_;  // ends last: says that the device is in use (tap_filters.h)
  HostInterface interface_;
  std::vector<UniqueFd> queues_;
};

}  // namespace bulkhead::shim
