// What a program of the host says when it is asked something.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace bulkhead::cli {

// Its stdout, at most 64 KiB; kDeadlineExceeded when nothing comes for 10 s. argv[0] is a path.
Result<std::string> OutputOf(const std::vector<std::string>& argv);

}  // namespace bulkhead::cli
