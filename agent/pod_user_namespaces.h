// The user namespaces that containers of the pod share ("pod" in a spec): one for each set of
// mappings, made at first use. They go with the guest.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "base/result.h"
#include "base/unique_fd.h"
#include "oci/spec.h"

namespace bulkhead::agent {

class PodUserNamespaces {
 public:
  PodUserNamespaces() = default;
  PodUserNamespaces(const PodUserNamespaces&) = delete;
  PodUserNamespaces& operator=(const PodUserNamespaces&) = delete;

  // That of the section's mappings.
  Result<UniqueFd> Enter(const oci::Linux& section);

 private:
  std::mutex mutex_;
  std::map<std::pair<std::string, std::string>, UniqueFd> namespaces_;  // by the maps' texts
};

}  // namespace bulkhead::agent
