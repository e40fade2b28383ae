#include "base/log.h"

#include <fmt/chrono.h>
#include <fmt/core.h>

#include <array>

#include "base/sys.h"

namespace bulkhead {
namespace {

std::string_view LevelName(LogLevel level) {
  constexpr std::array<std::string_view, 4> kNames{"debug", "info", "warning", "error"};
  return kNames.at(static_cast<size_t>(level));
}

// Length of the valid UTF-8 sequence at the start of `text`, or 0.
size_t SequenceLength(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  const size_t length = lead < 0x80    ? 1
                        : lead >= 0xf0 ? 4
                        : lead >= 0xe0 ? 3
                        : lead >= 0xc2 ? 2
                                       : 0;
  if (length == 0 || length > text.size() || lead > 0xf4) {
    return 0;
  }
  for (size_t i = 1; i < length; ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xc0) != 0x80) {
      return 0;
    }
  }
  return length;
}

}  // namespace

std::string UtcNow(int fraction_digits) {
  const auto now = std::chrono::system_clock::now();
  const auto seconds = std::chrono::floor<std::chrono::seconds>(now);
  const std::string fraction = fmt::format(
      "{:09}", std::chrono::duration_cast<std::chrono::nanoseconds>(now - seconds).count());
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}{}{}Z",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(seconds)),
                     fraction_digits > 0 ? "." : "",
                     std::string_view(fraction).substr(0, static_cast<size_t>(fraction_digits)));
}

std::string JsonQuote(std::string_view text) {
  std::string result = "\"";
  while (!text.empty()) {
    const char c = text[0];
    const size_t length = SequenceLength(text);
    if (length == 0) {
      result += "\\ufffd";
    } else if (c == '"' || c == '\\') {
      result += fmt::format("\\{}", c);
    } else if (static_cast<unsigned char>(c) < 0x20) {
      result += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      result += text.substr(0, length);
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return result + "\"";
}

Logger::Logger(std::string program, int fd, LogFormat format, LogLevel threshold)
    : program_(std::move(program)), fd_(fd), format_(format), threshold_(threshold) {}

void Logger::Log(LogLevel level, std::string_view message, std::initializer_list<Field> fields) {
  if (!Enabled(level)) {
    return;
  }
  std::string line;
  if (format_ == LogFormat::kJson) {
    line = fmt::format(R"({{"time":"{}","level":"{}","msg":{})", UtcNow(3), LevelName(level),
                       JsonQuote(message));
    for (const auto& [key, value] : fields) {
      line += fmt::format(",{}:{}", JsonQuote(key), JsonQuote(value));
    }
    line += "}\n";
  } else {
    line = fmt::format("{}: ", program_);
    if (level != LogLevel::kInfo) {
      line += fmt::format("{}: ", LevelName(level));
    }
    line += message;
    for (const auto& [key, value] : fields) {
      line += fmt::format(" {}={}", key, value);
    }
    line += '\n';
  }
  const std::lock_guard lock(mutex_);
  (void)sys::WriteAll(fd_, line);  // there is nowhere to report a log that cannot be written
}

void Timeline::Mark(std::string phase) {
  const auto now = Clock::now();
  const std::lock_guard lock(mutex_);
  entries_.push_back({std::move(phase), now});
}

std::vector<Timeline::Entry> Timeline::entries() const {
  const std::lock_guard lock(mutex_);
  return entries_;
}

std::string Timeline::ToText() const {
  using Ms = std::chrono::duration<double, std::milli>;
  std::string text;
  auto last = start_;
  for (const Entry& entry : entries()) {
    text += fmt::format("{:8.1f} ms {:+8.1f}  {}\n", Ms(entry.at - start_).count(),
                        Ms(entry.at - last).count(), entry.phase);
    last = entry.at;
  }
  return text;
}

}  // namespace bulkhead
