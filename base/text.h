// Small things that are done to text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace bulkhead {

// At each separator: "a,,b" has three parts, "" has one.
std::vector<std::string> SplitText(std::string_view text, char separator);

}  // namespace bulkhead
