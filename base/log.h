// A small structured logger: text for people, JSON (one object a line) for machines.
#pragma once

#include <chrono>
#include <initializer_list>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/unique_fd.h"

namespace bulkhead {

// The wall clock now, in RFC 3339 form with so many digits (0 to 9) of a second's fraction:
// "2026-01-31T23:59:59.123Z".
std::string UtcNow(int fraction_digits);

enum class LogLevel { kDebug, kInfo, kWarning, kError };
enum class LogFormat { kText, kJson };

class Logger {
 public:
  using Field = std::pair<std::string_view, std::string_view>;

  // `program` stands before each text line ("bulkhead: ..."). `fd` is not owned.
  Logger(std::string program, int fd, LogFormat format, LogLevel threshold);

  bool Enabled(LogLevel level) const { return level >= threshold_; }
  void Log(LogLevel level, std::string_view message, std::initializer_list<Field> fields = {});
  void Debug(std::string_view m, std::initializer_list<Field> f = {}) {
    Log(LogLevel::kDebug, m, f);
  }
  void Info(std::string_view m, std::initializer_list<Field> f = {}) { Log(LogLevel::kInfo, m, f); }
  void Warning(std::string_view m, std::initializer_list<Field> f = {}) {
    Log(LogLevel::kWarning, m, f);
  }
  void Error(std::string_view m, std::initializer_list<Field> f = {}) {
    Log(LogLevel::kError, m, f);
  }

 private:
  const std::string program_;
  const int fd_;
  const LogFormat format_;
  const LogLevel threshold_;
  std::mutex mutex_;
};

// `text` between quotes, escaped as JSON wants it; bytes that are not UTF-8 become U+FFFD.
std::string JsonQuote(std::string_view text);

// The phases of a start, in milliseconds from the first: what --debug shows. Thread-safe.
class Timeline {
 public:
  using Clock = std::chrono::steady_clock;

  void Mark(std::string phase);  // the phase ends now
  struct Entry {
    std::string phase;
    Clock::time_point at;
  };
  std::vector<Entry> entries() const;
  Clock::time_point start() const { return start_; }
  // One line a phase: "   12.3 ms  +4.5  qemu started".
  std::string ToText() const;

 private:
  const Clock::time_point start_ = Clock::now();
  mutable std::mutex mutex_;
  std::vector<Entry> entries_;
};

}  // namespace bulkhead
