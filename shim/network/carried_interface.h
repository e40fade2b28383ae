// How an interface of the pod's network namespace reaches the guest.
#pragma once

#include <cstddef>
#include <string>

#include "shim/network/netns_scan.h"

namespace bulkhead::shim {

struct CarriedInterface {
  HostInterface interface;
  std::string nic;    // its id in the VM
  std::string tap;    // in the namespace
  std::string model;  // "tc", "macvtap"
  size_t queues = 0;
  bool vhost = false;    // the kernel's thread carries the frames, not QEMU's
  bool plugged = false;  // the VM has the NIC
};

}  // namespace bulkhead::shim
