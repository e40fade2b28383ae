#include "cli/engine/console.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <termios.h>

#include <array>

#include "base/sys.h"

namespace bulkhead::cli {

Result<Pty> OpenPty(const std::optional<oci::ConsoleSize>& size) {
  Pty pty;
  pty.master = TRY(sys::Open("/dev/ptmx", O_RDWR | O_NOCTTY));
  int unlock = 0;
  TRY(sys::CheckCall(::ioctl(pty.master.get(), TIOCSPTLCK, &unlock), "TIOCSPTLCK"));
  pty.slave.Reset(::ioctl(pty.master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
  TRY(sys::CheckCall(pty.slave.get(), "TIOCGPTPEER"));
  termios mode{};
  TRY(sys::CheckCall(::tcgetattr(pty.slave.get(), &mode), "tcgetattr"));
  ::cfmakeraw(&mode);
  TRY(sys::CheckCall(::tcsetattr(pty.slave.get(), TCSANOW, &mode), "tcsetattr"));
  if (size && size->height != 0 && size->width != 0) {
    const winsize window{static_cast<uint16_t>(size->height), static_cast<uint16_t>(size->width), 0,
                         0};
    TRY(sys::CheckCall(::ioctl(pty.slave.get(), TIOCSWINSZ, &window), "TIOCSWINSZ"));
  }
  return pty;
}

Status SendConsole(const std::string& socket, const Pty& pty) {
  const UniqueFd connection = TRY_AS(sys::ConnectUnix(socket), "--console-socket");
  const std::array<int, 1> fds{pty.master.get()};
  return sys::SendWithFds(connection.get(), "/dev/ptmx", fds);
}

}  // namespace bulkhead::cli
