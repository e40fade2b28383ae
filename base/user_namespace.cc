#include "base/user_namespace.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "base/sys.h"

namespace bulkhead {
namespace {

// The namespace's first process, without which it would have no name. It does nothing, so that
// it may be born of a process with many threads.
class Holder {
 public:
  static Result<Holder> Start() {
    int pidfd = -1;
    const pid_t parent = ::getpid();
    clone_args arguments{};  // no exit signal: nobody else who waits for children meets it
    arguments.flags = CLONE_NEWUSER | CLONE_PIDFD;
    arguments.pidfd = reinterpret_cast<uint64_t>(&pidfd);
    const long pid = ::syscall(SYS_clone3, &arguments, sizeof(arguments));
    if (pid == 0) {
      ::syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
      while (::syscall(SYS_getppid) == parent) {  // it may have died before the signal was set
        ::syscall(SYS_pause);
      }
      ::_exit(0);
    }
    TRY(sys::CheckCall(pid, "clone3 (user namespace)"));
    return Holder(static_cast<pid_t>(pid), UniqueFd(pidfd));
  }

  Holder(Holder&&) noexcept = default;
  Holder& operator=(Holder&&) = delete;
  ~Holder() {
    if (pidfd_.valid()) {
      (void)sys::PidfdSendSignal(pidfd_.get(), SIGKILL);
      siginfo_t info{};
      while (::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED | __WALL) == -1 &&
             sys::LastErrno() == EINTR) {
      }
    }
  }

  pid_t pid() const { return pid_; }

 private:
  Holder(pid_t pid, UniqueFd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}

  pid_t pid_;
  UniqueFd pidfd_;  // invalid: moved from
};

}  // namespace

Result<UniqueFd> MakeUserNamespace(std::string_view uid_map, std::string_view gid_map) {
  const Holder holder = TRY(Holder::Start());
  const std::string folder = fmt::format("/proc/{}", holder.pid());
  TRY(sys::WriteExisting(folder + "/uid_map", uid_map));
  TRY(sys::WriteExisting(folder + "/gid_map", gid_map));
  return sys::Open(folder + "/ns/user", O_RDONLY);
}

}  // namespace bulkhead
