#include "cli/log_lines.h"

namespace bulkhead::cli {

std::optional<LogLine> ParseLogLine(std::string_view line) {
  LogLine parsed;
  const size_t time_end = line.find(' ');
  if (time_end == std::string_view::npos) {
    return std::nullopt;
  }
  parsed.time = line.substr(0, time_end);
  line.remove_prefix(time_end + 1);
  if (!line.starts_with("stdout ") && !line.starts_with("stderr ")) {
    return std::nullopt;
  }
  parsed.is_stderr = line.starts_with("stderr");
  line.remove_prefix(7);
  if (line.size() < 2 || (line[0] != 'F' && line[0] != 'P') || line[1] != ' ') {
    return std::nullopt;
  }
  parsed.partial = line[0] == 'P';
  parsed.text = line.substr(2);
  return parsed;
}

void LogPrinter::Print(const LogLine& line, std::string& out, std::string& err) {
  std::string& to = line.is_stderr ? err : out;
  bool& inside = inside_[line.is_stderr ? 1 : 0];
  if (times_ && !inside) {
    to += line.time;
    to += ' ';
  }
  to += line.text;
  if (!line.partial) {
    to += '\n';
  }
  inside = line.partial;
}

size_t TailOffset(std::string_view log, size_t count) {
  if (count == 0) {
    return log.size();
  }
  size_t begin = log.size();
  size_t wanted = count;
  bool first = true;
  while (begin > 0) {
    const size_t end = begin - 1;  // of the line before, at its '\n'
    const size_t newline = end == 0 ? std::string_view::npos : log.rfind('\n', end - 1);
    const size_t start = newline == std::string_view::npos ? 0 : newline + 1;
    const auto line = ParseLogLine(log.substr(start, end - start));
    // A full record ends a line; the last record of all ends one too, partial or not.
    if (line && (!line->partial || first)) {
      if (wanted == 0) {
        return begin;
      }
      --wanted;
    }
    first = false;
    begin = start;
  }
  return 0;
}

}  // namespace bulkhead::cli
