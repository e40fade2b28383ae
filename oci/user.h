// Who a container runs as: "user[:group]", by name or number, looked up in the image's own
// /etc/passwd and /etc/group as Docker does.
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

// `spec`: empty means root. `layers`: folders, lowest first. `extra_groups`: names or numbers.
Result<ResolvedUser> ResolveUser(const std::string& spec, const std::vector<std::string>& layers,
                                 const std::vector<std::string>& extra_groups = {});

// The same, on the text of the two files.
Result<ResolvedUser> ResolveUserFrom(const std::string& spec, const std::string& passwd,
                                     const std::string& group,
                                     const std::vector<std::string>& extra_groups = {});

}  // namespace bulkhead::oci
