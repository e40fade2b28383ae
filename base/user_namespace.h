// User namespaces that nobody runs in yet.
#pragma once

#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead {

// A new one, with maps in the form of user_namespaces(7): lines "INSIDE OUTSIDE COUNT". The kernel
// refuses (EINVAL) those that overlap or are too many. Its processes are yet to come: by setns, or
// as an id map of mount_setattr(2). From any thread.
Result<UniqueFd> MakeUserNamespace(std::string_view uid_map, std::string_view gid_map);

}  // namespace bulkhead
