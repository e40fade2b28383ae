// The stand-in's own process. It holds nothing but its namespaces, and a channel if it has one.
#include <linux/capability.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "base/sys.h"
#include "shim/stand_in.h"
#include "shim/stand_in_fds.h"
#include "shim/stand_in_mounts.h"

namespace bulkhead::shim {
namespace {

Status BringLoopbackUp() {
  const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strncpy(request.ifr_name, "lo", IFNAMSIZ - 1);
  TRY(sys::CheckCall(::ioctl(socket.get(), SIOCGIFFLAGS, &request), "lo: SIOCGIFFLAGS"));
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  return sys::CheckCall(::ioctl(socket.get(), SIOCSIFFLAGS, &request), "lo: SIOCSIFFLAGS");
}

Status EnterNetwork(const std::string& network) {
  if (network == "join") {
    return sys::SetNs(kNamespaceFd, CLONE_NEWNET);
  }
  if (network == "new") {
    TRY(sys::Unshare(CLONE_NEWNET));
    return BringLoopbackUp();
  }
  return {};
}

Status DropCapabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> none{};
  TRY(sys::CheckCall(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS"));
  return sys::CheckCall(::syscall(SYS_capset, &header, none.data()), "capset");
}

struct Role {
  std::string network;
  std::string bundle;  // of the container whose files it shows; empty: none
  bool channel = false;
  bool terminal = false;
  bool controlling = false;
};

Status Settle(const Role& role) {
  TRY(EnterNetwork(role.network));
  if (role.controlling) {
    TRY(sys::CheckCall(::ioctl(kTerminalFd, TIOCSCTTY, 0), "TIOCSCTTY"));
  }
  if (role.bundle.empty() || !ShowContainer(role.bundle)) {  // who creates it tells what is wrong
    (void)HideHost();  // where the host's root cannot be left, as an initramfs, it stays in sight
  }
  TRY(sys::Chdir("/"));  // nothing of its maker's shall be held
  return DropCapabilities();
}

// As the process in the guest ended.
[[noreturn]] void End(int code, int number) {
  if (number > 0) {
    const rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    sigset_t all;
    ::signal(number, SIG_DFL);
    ::sigemptyset(&all);
    ::raise(number);
    ::sigprocmask(SIG_SETMASK, &all, nullptr);
    code = 128 + number;  // it is not one that ends a process
  }
  ::_exit(code);
}

void Say(const StandInMessage& message) {
  (void)::send(kChannelFd, &message, sizeof(message), MSG_NOSIGNAL);
}

void SaySize(const Role& role) {
  winsize size{};
  if (role.terminal && ::ioctl(kTerminalFd, TIOCGWINSZ, &size) == 0 && size.ws_row != 0) {
    Say({StandInMessage::kSize, size.ws_row, size.ws_col});
  }
}

void ReadSignal(int signals, const Role& role) {
  signalfd_siginfo info{};
  if (::read(signals, &info, sizeof(info)) != sizeof(info)) {
    return;
  }
  if (info.ssi_signo == SIGWINCH && role.terminal) {
    SaySize(role);
  } else {
    Say({StandInMessage::kSignal, static_cast<int32_t>(info.ssi_signo), 0});
  }
}

[[noreturn]] void Serve(const Role& role, int signals) {
  SaySize(role);
  std::array<pollfd, 2> events{pollfd{kChannelFd, POLLIN, 0}, pollfd{signals, POLLIN, 0}};
  while (true) {
    if (::poll(events.data(), events.size(), -1) <= 0) {
      continue;
    }
    if (events[0].revents != 0) {
      StandInMessage message;
      if (::recv(kChannelFd, &message, sizeof(message), 0) != sizeof(message)) {
        End(0, SIGKILL);  // the daemon is gone, and the VM with it
      }
      if (message.kind == StandInMessage::kExit) {
        End(message.first, message.second);
      }
    }
    if (events[1].revents != 0) {
      ReadSignal(signals, role);
    }
  }
}

}  // namespace

int StandInMain(const std::string& words) {
  Role role;
  std::istringstream list(words);
  list >> role.network;
  if (const char* bundle = std::getenv(kStandInBundleVariable)) {
    role.bundle = bundle;
  }
  for (std::string word; list >> word;) {
    role.channel = role.channel || word == "channel";
    role.controlling = role.controlling || word == "controlling";
    role.terminal = role.terminal || role.controlling || word == "terminal";
  }
  ::prctl(PR_SET_NAME, kStandInComm);
  sigset_t all;
  ::sigfillset(&all);
  if (role.channel) {
    ::sigprocmask(SIG_SETMASK, &all, nullptr);
  }
  const auto settled = Settle(role);
  (void)sys::WriteAll(kReportFd, settled ? "ready" : settled.error().message());
  ::close(kReportFd);
  ::close(kNamespaceFd);
  if (!settled) {
    return 1;
  }
  if (role.channel) {
    Serve(role, ::signalfd(-1, &all, SFD_CLOEXEC));  // no sooner: it could be one of those closed
  }
  ::close_range(kReportFd, ~0U, 0);
  while (true) {
    ::pause();
  }
}

}  // namespace bulkhead::shim
