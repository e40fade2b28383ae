// The pod's network, in the guest's own namespace: made what the host describes, again and again.
#pragma once

#include <chrono>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "agent/network_plan.h"
#include "agent/network_types.h"
#include "base/netlink.h"
#include "base/result.h"

namespace bulkhead::agent {

class PodNetwork {
 public:
  // Interfaces that are still missing are waited for. What is as described is not touched; see
  // network_plan.h for what goes. After a failure a further call starts from what is there. Returns
  // the names of sysctls that could not be set.
  Result<std::vector<std::string>> Set(Network network,
                                       std::chrono::milliseconds timeout = std::chrono::seconds(5));

 private:
  std::vector<std::string> SetSysctls(const std::map<std::string, std::string>& wanted);

  std::mutex mutex_;  // one call at a time
  NetworkSettings before_;
  std::map<std::string, std::string> sysctls_;  // as last described
};

}  // namespace bulkhead::agent
