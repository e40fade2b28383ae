// The config.json that `spec` writes.
#pragma once

#include <string>

namespace bulkhead::cli {

// As runc's; `rootless`: for a user namespace of this user.
std::string DefaultSpec(bool rootless);

}  // namespace bulkhead::cli
