// Small helpers that the parsers of option values share.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace bulkhead::cli {

Result<int64_t> ParseInteger(std::string_view text);
std::string UpperCase(std::string_view text);

}  // namespace bulkhead::cli
