#include "base/child.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace bulkhead {
namespace {

// What the child needs between clone and exec, prepared before: there it may not allocate.
struct ExecPlan {
  const char* program = nullptr;
  std::vector<char*> argv;
  std::vector<char*> envp;
  std::vector<ChildFd> fds;
  std::vector<int> kept;  // their targets above 2, in order
  int max_target = 2;
  int death_signal = 0;
  bool new_session = false;
  int error_fd = -1;
  pid_t parent = 0;
};

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  pointers.reserve(strings.size() + 1);
  for (const std::string& text : strings) {
    pointers.push_back(const_cast<char*>(text.c_str()));
  }
  pointers.push_back(nullptr);
  return pointers;
}

// Moves every fd above the targets first, so that no dup2 overwrites a source still needed.
bool PlaceFds(ExecPlan& plan) {
  const int floor = plan.max_target + 1;
  plan.error_fd = ::fcntl(plan.error_fd, F_DUPFD_CLOEXEC, floor);
  if (plan.error_fd < 0) {
    return false;
  }
  for (ChildFd& fd : plan.fds) {
    fd.source = ::fcntl(fd.source, F_DUPFD_CLOEXEC, floor);
    if (fd.source < 0) {
      return false;
    }
  }
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int target = 0; target <= 2 && null >= 0; ++target) {
    ::dup2(null, target);
  }
  for (const ChildFd& fd : plan.fds) {
    if (::dup2(fd.source, fd.target) < 0) {
      return false;
    }
  }
  // Close-on-exec for all that was not placed, the error pipe among them.
  return std::all_of(plan.fds.begin(), plan.fds.end(),
                     [](const ChildFd& fd) { return ::fcntl(fd.target, F_SETFD, 0) == 0; });
}

void CloseOthersOnExec(const ExecPlan& plan) {
  int next = 3;
  for (const int target : plan.kept) {
    if (target > next) {
      ::syscall(SYS_close_range, next, target - 1, CLOSE_RANGE_CLOEXEC);
    }
    next = target + 1;
  }
  ::syscall(SYS_close_range, next, ~0U, CLOSE_RANGE_CLOEXEC);
}

[[noreturn]] void RunChild(ExecPlan& plan) {
  const int report = plan.error_fd;
  bool ready = true;
  if (plan.death_signal != 0) {
    ::prctl(PR_SET_PDEATHSIG, plan.death_signal);
    ready = ::getppid() == plan.parent;  // it may have died before prctl
  }
  if (plan.new_session) {
    ::setsid();
  }
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  if (ready && PlaceFds(plan)) {
    CloseOthersOnExec(plan);
    ::execve(plan.program, plan.argv.data(), plan.envp.data());
  }
  const int error = errno;
  [[maybe_unused]] const ssize_t written =
      ::write(plan.error_fd >= 0 ? plan.error_fd : report, &error, sizeof(error));
  ::_exit(127);
}

}  // namespace

Result<Child> Child::Spawn(const SpawnOptions& options) {
  sys::Pipe errors = TRY(sys::MakePipe());
  ExecPlan plan;
  const std::string& program = options.program.empty() ? options.argv[0] : options.program;
  plan.program = program.c_str();
  plan.argv = Pointers(options.argv);
  if (options.env) {
    plan.envp = Pointers(*options.env);
  } else {
    for (char** entry = environ; *entry != nullptr; ++entry) {
      plan.envp.push_back(*entry);
    }
    plan.envp.push_back(nullptr);
  }
  plan.fds = options.fds;
  for (const ChildFd& fd : options.fds) {
    plan.max_target = std::max(plan.max_target, fd.target);
    if (fd.target > 2) {
      plan.kept.push_back(fd.target);
    }
  }
  std::sort(plan.kept.begin(), plan.kept.end());
  plan.death_signal = options.death_signal;
  plan.new_session = options.new_session;
  plan.error_fd = errors.write.get();
  plan.parent = ::getpid();

  int pidfd = -1;
  clone_args arguments{};
  arguments.flags = CLONE_PIDFD;
  arguments.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  arguments.exit_signal = SIGCHLD;
  if (options.cgroup >= 0) {
    arguments.flags |= CLONE_INTO_CGROUP;
    arguments.cgroup = static_cast<uint64_t>(options.cgroup);
  }
  const auto pid = static_cast<pid_t>(::syscall(SYS_clone3, &arguments, sizeof(arguments)));
  if (pid == 0) {
    RunChild(plan);
  }
  if (pid == -1) {
    return MakeErrno(errno, "start {}", program);
  }
  Child child(pid, UniqueFd(pidfd));
  errors.write.Reset();
  int error = 0;
  const size_t size =
      TRY(sys::Read(errors.read.get(), std::as_writable_bytes(std::span(&error, 1))));
  if (size == sizeof(error)) {
    return MakeErrno(error, "exec {}", program);
  }
  return child;
}

Child::Child(Child&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      pidfd_(std::move(other.pidfd_)),
      exit_(std::exchange(other.exit_, std::nullopt)) {}

Child& Child::operator=(Child&& other) noexcept {
  if (this != &other) {
    KillAndReap();
    pid_ = std::exchange(other.pid_, -1);
    pidfd_ = std::move(other.pidfd_);
    exit_ = std::exchange(other.exit_, std::nullopt);
  }
  return *this;
}

Child::~Child() { KillAndReap(); }

Status Child::Signal(int signal) const {
  if (!pidfd_ || exit_) {
    return MakeErrno(ESRCH, "send signal {} to pid {}", signal, pid_);
  }
  return sys::PidfdSendSignal(pidfd_.get(), signal);
}

Result<std::optional<sys::Exit>> Child::Wait(std::optional<std::chrono::milliseconds> timeout) {
  if (!exit_) {
    exit_ = TRY_AS(sys::WaitPidfd(pidfd_.get(), timeout), "pid {}", pid_);
  }
  return exit_;
}

void Child::Detach() {
  pidfd_.Reset();
  pid_ = -1;
}

void Child::KillAndReap() {
  if (pidfd_ && !exit_) {
    (void)sys::PidfdSendSignal(pidfd_.get(), SIGKILL);
    (void)sys::WaitPidfd(pidfd_.get(), std::nullopt);
  }
  pidfd_.Reset();
}

}  // namespace bulkhead
