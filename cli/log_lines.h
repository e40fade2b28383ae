// A container's log (CRI format) back to the bytes it was made of. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bulkhead::cli {

struct LogLine {
  std::string_view time;
  bool is_stderr = false;
  bool partial = false;  // no line end follows its text
  std::string_view text;
};

// One line of the file, without its end; nullopt when it is none.
std::optional<LogLine> ParseLogLine(std::string_view line);

// Turns log lines into output, with times where lines begin when asked for.
class LogPrinter {
 public:
  explicit LogPrinter(bool times) : times_(times) {}

  // Appends what the line stands for to stdout's or stderr's text.
  void Print(const LogLine& line, std::string& out, std::string& err);

 private:
  const bool times_;
  bool inside_[2] = {false, false};  // the stream's last line was partial
};

// Where the last `count` lines of both streams together begin in `log`: an offset.
size_t TailOffset(std::string_view log, size_t count);

}  // namespace bulkhead::cli
