#include "cli/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include "base/sys.h"

namespace bulkhead::cli {

bool IsTerminal(int fd) { return ::isatty(fd) == 1; }

std::optional<oci::ConsoleSize> TerminalSize() {
  for (int fd = 0; fd <= 2; ++fd) {
    winsize size{};
    if (::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0) {
      return oci::ConsoleSize{size.ws_row, size.ws_col};
    }
  }
  return std::nullopt;
}

Result<RawTerminal> RawTerminal::Enter(int fd) {
  termios saved{};
  TRY(sys::CheckCall(::tcgetattr(fd, &saved), "read the terminal's mode"));
  termios raw = saved;
  ::cfmakeraw(&raw);
  TRY(sys::CheckCall(::tcsetattr(fd, TCSADRAIN, &raw), "set the terminal to raw mode"));
  return RawTerminal(fd, saved);
}

RawTerminal::~RawTerminal() {
  if (fd_ >= 0) {
    (void)::tcsetattr(fd_, TCSADRAIN, &saved_);
  }
}

}  // namespace bulkhead::cli
