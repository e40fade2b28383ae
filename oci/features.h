// What a runtime tells of itself: features.md of the runtime specification.
#pragma once

#include <string>

namespace bulkhead::oci {

// `version`: of Bulkhead. `hooks`: whether it runs them.
std::string FeaturesJson(const std::string& version, bool hooks);

}  // namespace bulkhead::oci
