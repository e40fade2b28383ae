// Which namespaces a container gets. A pod is one VM: the pod's network is the guest's own root
// network namespace, so "network" without a path means that one and never a new, empty one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "oci/spec.h"

namespace bulkhead::agent {

struct NamespacePlan {
  uint64_t create = 0;      // CLONE_NEW* for clone3
  bool new_cgroup = false;  // unshared by the child once it is in its cgroup, which is the root
  struct Join {
    int type;  // CLONE_NEW*
    std::string path;
  };
  std::vector<Join> join;
  std::optional<std::string> user;  // the path; "": a new user namespace
};

Result<NamespacePlan> PlanNamespaces(const std::vector<oci::Namespace>& namespaces);

}  // namespace bulkhead::agent
