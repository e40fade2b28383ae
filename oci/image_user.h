// Who a container of an image runs as.
#pragma once

#include <string>
#include <vector>

#include "oci/user.h"

namespace bulkhead::oci {

// ResolveUserFrom() with the image's own files. `layers`: folders, lowest first.
Result<ResolvedUser> ResolveUser(const std::string& spec, const std::vector<std::string>& layers,
                                 const std::vector<std::string>& extra_groups = {});

}  // namespace bulkhead::oci
