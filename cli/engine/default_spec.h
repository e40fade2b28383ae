// The config.json that `spec` writes, and what `features` prints.
#pragma once

#include <string>

namespace bulkhead::cli {

// As runc's; `rootless`: for a user namespace of this user.
std::string DefaultSpec(bool rootless);
std::string FeaturesJson();

}  // namespace bulkhead::cli
