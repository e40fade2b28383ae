#include "agent/mini_init.h"

#include <fmt/core.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>

#include "base/result.h"
#include "base/sys.h"

namespace bulkhead::agent {
namespace {

constexpr int kNotFound = 127;
constexpr int kNotRunnable = 126;

[[noreturn]] void Exec(char** argv, const sigset_t& mask) {
  // A group of its own in the foreground: Ctrl-C reaches the command once, from the terminal.
  ::setpgid(0, 0);
  ::signal(SIGTTOU, SIG_IGN);
  ::tcsetpgrp(STDIN_FILENO, ::getpid());
  ::signal(SIGTTOU, SIG_DFL);
  ::sigprocmask(SIG_SETMASK, &mask, nullptr);
  ::execvp(argv[0], argv);
  const Error error = Error::FromErrno(sys::LastErrno(), fmt::format("exec: \"{}\"", argv[0]));
  fmt::print(stderr, "{}\n", error.message());
  std::fflush(stderr);
  ::_exit(error.code() == ErrorCode::kNotFound ? kNotFound : kNotRunnable);
}

// Reaps all that has ended; the command's exit code once it is among them, else -1.
int Reap(pid_t command) {
  int code = -1;
  int status = 0;
  for (pid_t pid = ::waitpid(-1, &status, WNOHANG); pid > 0;
       pid = ::waitpid(-1, &status, WNOHANG)) {
    if (pid == command) {
      code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    }
  }
  return code;
}

}  // namespace

void ReapForEver() {
  ::prctl(PR_SET_NAME, "bulkhead-pod");
  ::syscall(SYS_close_range, 0, ~0U, 0);
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, nullptr);
  while (true) {
    Reap(0);
    siginfo_t info{};
    ::sigwaitinfo(&all, &info);
  }
}

int RunMiniInit(char** argv) {
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, &before);
  const pid_t command = ::fork();
  if (command == 0) {
    Exec(argv, before);
  }
  if (command < 0) {
    return kNotRunnable;
  }
  while (true) {
    siginfo_t info{};
    const int signal = ::sigwaitinfo(&all, &info);
    if (signal == SIGCHLD) {
      if (const int code = Reap(command); code >= 0) {
        return code;
      }
    } else if (signal > 0 && signal != SIGTTIN && signal != SIGTTOU) {
      ::kill(command, signal);
    }
  }
}

}  // namespace bulkhead::agent
