// Who a container runs as: "user[:group]", by name or number, looked up in /etc/passwd and
// /etc/group as Docker does.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "oci/spec.h"

namespace bulkhead::oci {

struct ResolvedUser {
  User user;               // additional_gids begin with the primary group
  std::string name;        // empty: the number has no entry in /etc/passwd
  std::string home = "/";  // for HOME
};

// `spec`: empty means root. `passwd`, `group`: the text of the two files. `extra_groups`: names or
// numbers.
Result<ResolvedUser> ResolveUserFrom(const std::string& spec, const std::string& passwd,
                                     const std::string& group,
                                     const std::vector<std::string>& extra_groups = {});

}  // namespace bulkhead::oci
