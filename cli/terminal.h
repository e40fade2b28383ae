// The terminal this program runs in.
#pragma once

#include <termios.h>

#include <optional>

#include "base/result.h"
#include "oci/spec.h"

namespace bulkhead::cli {

bool IsTerminal(int fd);
std::optional<oci::ConsoleSize> TerminalSize();  // of the first of fds 0, 1, 2 that is one

// Raw mode while it lives.
class RawTerminal {
 public:
  static Result<RawTerminal> Enter(int fd);

  RawTerminal(RawTerminal&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), saved_(other.saved_) {}
  RawTerminal& operator=(RawTerminal&&) = delete;
  ~RawTerminal();

 private:
  RawTerminal(int fd, const termios& saved) : fd_(fd), saved_(saved) {}

  int fd_;
  termios saved_;
};

}  // namespace bulkhead::cli
