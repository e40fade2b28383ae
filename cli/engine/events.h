// Statistics in the form in which `events` prints them.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "base/result.h"
#include "cli/daemon.h"

namespace bulkhead::cli {

// One line: `{"type":"stats","id":...,"data":{...}}`.
Result<std::string> StatsEvent(const std::string& id, const TaskStats& stats);

// "5s", "500ms", "1m", "1h30m" as Go reads them.
Result<std::chrono::milliseconds> ParseGoDuration(std::string_view text);

}  // namespace bulkhead::cli
