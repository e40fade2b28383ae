#include "agent/container_init.h"

#include <fcntl.h>
#include <grp.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <set>

#include "agent/capabilities.h"
#include "agent/devices.h"
#include "agent/limits.h"
#include "agent/mini_init.h"
#include "agent/mounts.h"
#include "agent/scheduling.h"
#include "agent/seccomp.h"
#include "agent/sysctls.h"
#include "base/rooted_path.h"
#include "base/sys.h"
#include "oci/mount_options.h"
#include "oci/user.h"

namespace bulkhead::agent {
namespace {

constexpr size_t kMaxSeccompBytes = 1U << 20U;

// The agent's signal mask and ignored signals are no business of the container.
void ResetSignals() {
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) {
    ::sigaction(signal, &action, nullptr);
  }
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

bool IsLate(unsigned long propagation) { return (propagation & (MS_SHARED | MS_UNBINDABLE)) != 0; }

Status PrepareRoot(const oci::Spec& spec) {
  const std::string& propagation = spec.linux_.rootfs_propagation;
  const unsigned long wanted =
      propagation.empty() ? MS_SLAVE | MS_REC : TRY(oci::ParsePropagation(propagation));
  // Nothing of the container's is ever to reach the guest, and what is unbindable cannot be bound
  // below: those two are made so after pivot.
  TRY(sys::Mount("", "/", "", IsLate(wanted) ? MS_SLAVE | MS_REC : wanted | MS_REC));
  // pivot_root refuses a parent that is shared; a private one is right for a slave as well.
  TRY(sys::Mount("", "/", "", MS_PRIVATE));
  TRY_AS(sys::Mount(spec.root.path, spec.root.path, "", MS_BIND | MS_REC), "root.path");
  return {};
}

Status PivotInto(const std::string& root) {
  TRY(sys::Chdir(root));
  const UniqueFd old_root = TRY(sys::Open("/", O_RDONLY | O_DIRECTORY));
  TRY(sys::PivotRoot(".", "."));  // the old root is now mounted on the new one
  TRY(sys::Fchdir(old_root.get()));
  TRY(sys::Mount("", ".", "", MS_SLAVE | MS_REC));
  TRY(sys::Unmount(".", MNT_DETACH));
  return sys::Chdir("/");
}

Status SetNames(const LaunchRequest& request) {
  const oci::Spec& spec = request.spec;
  if ((!spec.hostname.empty() || !spec.domainname.empty()) && !request.owns_uts) {
    return {};  // the pod's
  }
  if (!spec.hostname.empty()) {
    TRY(sys::SetHostname(spec.hostname));
  }
  if (!spec.domainname.empty()) {
    TRY(sys::CheckCall(::setdomainname(spec.domainname.data(), spec.domainname.size()),
                       "setdomainname"));
  }
  return {};
}

Status HidePaths(const oci::Spec& spec) {
  for (const std::string& path : spec.linux_.readonly_paths) {
    TRY_AS(MakeReadonly(path), "linux.readonlyPaths");
  }
  for (const std::string& path : spec.linux_.masked_paths) {
    TRY_AS(MaskPath(path), "linux.maskedPaths");
  }
  return {};
}

Status FinishRoot(const oci::Spec& spec) {
  TRY(CloseTmpfs(spec.mounts));
  if (const std::string& propagation = spec.linux_.rootfs_propagation; !propagation.empty()) {
    const unsigned long wanted = TRY(oci::ParsePropagation(propagation));
    if (IsLate(wanted)) {
      TRY(sys::Mount("", "/", "", wanted));
    }
  }
  if (spec.root.readonly) {
    TRY_AS(RemountReadonly("/"), "root.readonly");
  }
  return {};
}

Status SetUpContainer(LaunchRequest& request) {
  const oci::Spec& spec = request.spec;
  if (request.new_cgroup) {
    TRY(sys::Unshare(CLONE_NEWCGROUP));
  }
  TRY(PrepareRoot(spec));
  // Opened after the bind: the fd is of the new mount.
  const UniqueFd root = TRY(sys::Open(spec.root.path, O_PATH | O_DIRECTORY));
  for (const oci::Mount& mount : spec.mounts) {
    TRY(MountInRoot(root.get(), mount));
  }
  if (!request.has_user_namespace()) {
    TRY(MakeDevices(root.get(), StandardDevices()));
  }
  TRY(MakeDevices(root.get(), spec.linux_.devices));
  TRY(MakeDeviceLinks(root.get()));
  if (spec.process->cwd != "/") {
    static_cast<void>(EnsureInRoot(root.get(), spec.process->cwd, NodeKind::kDirectory));
  }
  if (spec.process->terminal) {
    TRY(EnsureInRoot(root.get(), "/dev/console", NodeKind::kFile));
  }
  TRY(SetNames(request));
  TRY(SetSysctls(spec.linux_.sysctl));
  TRY(PivotInto(spec.root.path));
  return {};
}

Status SetWindowSize(int terminal, const std::optional<oci::ConsoleSize>& size) {
  if (!size) {
    return {};
  }
  winsize window{};
  window.ws_row = static_cast<unsigned short>(size->height);
  window.ws_col = static_cast<unsigned short>(size->width);
  return sys::CheckCall(::ioctl(terminal, TIOCSWINSZ, &window), "set the console size");
}

// A pseudo-terminal of the container's own devpts; the master goes to the agent.
Status SetUpTerminal(const LaunchRequest& request) {
  const oci::Process& process = *request.spec.process;
  const UniqueFd master =
      TRY_AS(sys::Open("/dev/pts/ptmx", O_RDWR | O_NOCTTY), "terminal (is devpts on /dev/pts?)");
  int unlock = 0;
  TRY(sys::CheckCall(::ioctl(master.get(), TIOCSPTLCK, &unlock), "unlock the terminal"));
  UniqueFd slave(::ioctl(master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY));
  TRY(sys::CheckCall(slave.get(), "open the terminal"));
  TRY(SetWindowSize(slave.get(), process.console_size));
  TRY(sys::CheckCall(::fchown(slave.get(), process.user.uid, static_cast<gid_t>(-1)), "fchown"));
  if (request.kind == LaunchKind::kInit) {
    unsigned number = 0;
    TRY(sys::CheckCall(::ioctl(master.get(), TIOCGPTN, &number), "TIOCGPTN"));
    TRY(sys::Mount(fmt::format("/dev/pts/{}", number), "/dev/console", "", MS_BIND));
  }
  TRY(sys::CheckCall(::ioctl(slave.get(), TIOCSCTTY, 0), "set the controlling terminal"));
  TRY(ReportTerminal(request.sync.get(), master.get()));
  for (int fd = 0; fd < 3; ++fd) {
    TRY(sys::CheckCall(::dup2(slave.get(), fd), "dup2"));
  }
  return {};
}

Status SetUpStdio(const LaunchRequest& request) {
  if (request.spec.process->terminal) {
    return SetUpTerminal(request);
  }
  const std::array fds{request.stdin_fd.get(), request.stdout_fd.get(), request.stderr_fd.get()};
  for (int fd = 0; fd < 3; ++fd) {
    TRY(sys::CheckCall(::dup2(fds[static_cast<size_t>(fd)], fd), "dup2"));
    // So that /dev/stdout can be opened again by who is not root.
    if (!request.has_user_namespace() && S_ISFIFO(TRY(sys::FStat(fd)).st_mode)) {
      TRY(sys::CheckCall(::fchown(fd, request.spec.process->user.uid, static_cast<gid_t>(-1)),
                         "fchown"));
    }
  }
  return {};
}

Status LoadFilter(const LaunchRequest& request) {
  const std::string filter =
      TRY(sys::ReadFd(request.seccomp.get(), kMaxSeccompBytes, "seccomp program"));
  return LoadSeccomp(request.seccomp_flags, filter);
}

Status BecomeUser(const oci::User& user) {
  const std::set<gid_t> each(user.additional_gids.begin(), user.additional_gids.end());
  const std::vector<gid_t> groups(each.begin(), each.end());
  TRY(sys::CheckCall(::setgroups(groups.size(), groups.data()), "setgroups"));
  TRY(sys::CheckCall(::setresgid(user.gid, user.gid, user.gid), "setgid {}", user.gid));
  TRY(sys::CheckCall(::setresuid(user.uid, user.uid, user.uid), "setuid {}", user.uid));
  return {};
}

Status EnterFolder(const std::string& cwd) {
  if (auto entered = sys::Chdir(cwd); !entered) {
    return tl::unexpected<Error>(std::move(entered).error().Wrap("process.cwd"));
  }
  return {};
}

Status LimitProcess(const LaunchRequest& request) {
  const oci::Process& process = *request.spec.process;
  if (!request.has_user_namespace()) {
    TRY(SetLimits(process));
  }
  TRY(SetProcessLimit(process));
  if (process.scheduler) {
    TRY(SetScheduler(*process.scheduler));
  }
  if (process.io_priority) {
    TRY(SetIoPriority(*process.io_priority));
  }
  if (process.exec_cpu_affinity && request.kind == LaunchKind::kExec) {
    TRY(SetCpuAffinity(process.exec_cpu_affinity->final_));
  }
  TRY(SetPersonality(request.spec.linux_.personality));
  ::umask(process.user.umask.value_or(022));
  return {};
}

// From root with every capability to what the process is to be. After this little is possible.
Status DropPrivileges(const LaunchRequest& request) {
  const oci::Process& process = *request.spec.process;
  const CapabilitySets sets = CapabilitySets::Parse(process.capabilities);
  if (process.no_new_privileges) {
    TRY(sys::CheckCall(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs"));
  }
  const bool early = request.seccomp.valid() && !process.no_new_privileges;
  if (early) {
    TRY(LoadFilter(request));
  }
  TRY(DropBoundingSet(sets));
  // The folder may be closed to the user but open to root, or (NFS) the other way round.
  const bool entered = ::chdir(process.cwd.c_str()) == 0;
  TRY(sys::CheckCall(::prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), "PR_SET_KEEPCAPS"));
  TRY(BecomeUser(process.user));
  TRY(sys::CheckCall(::prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0), "PR_SET_KEEPCAPS"));
  if (!entered) {
    TRY(EnterFolder(process.cwd));
  }
  TRY(SetCapabilities(sets));
  if (request.seccomp.valid() && !early) {
    TRY(LoadFilter(request));
  }
  return {};
}

Error NotRunnable(const std::string& name, int errnum) {
  const bool missing = errnum == ENOENT || errnum == ENOTDIR;
  Error error = Error::FromErrno(errnum, fmt::format("exec: \"{}\"", name));
  return {missing ? ErrorCode::kCommandNotFound : ErrorCode::kCommandNotRunnable, errnum,
          missing && errnum == ENOENT ? fmt::format("exec: \"{}\": no such file or directory", name)
          : errnum == EACCES          ? fmt::format("exec: \"{}\": permission denied", name)
                                      : error.message()};
}

// 0, or why the file cannot be run.
int CheckExecutable(const std::string& path) {
  const auto info = sys::Stat(path);
  if (!info) {
    return info.error().errnum();
  }
  if (S_ISDIR(info->st_mode)) {
    return EACCES;
  }
  return ::faccessat(AT_FDCWD, path.c_str(), X_OK, AT_EACCESS) == 0 ? 0 : sys::LastErrno();
}

Status WaitForGo(int sync) {
  const auto message = TRY(sys::ReceiveWithFds(sync, 16, 1));
  if (message.closed) {
    ::_exit(0);  // it was deleted before its start
  }
  return {};
}

Status Exec(const std::string& path, const oci::Process& process) {
  std::vector<char*> argv;
  for (const std::string& argument : process.args) {
    argv.push_back(const_cast<char*>(argument.c_str()));
  }
  argv.push_back(nullptr);
  std::vector<char*> env;
  for (const std::string& entry : process.env) {
    env.push_back(const_cast<char*>(entry.c_str()));
  }
  env.push_back(nullptr);
  ::execve(path.c_str(), argv.data(), env.data());
  return tl::unexpected<Error>(NotRunnable(process.args[0], sys::LastErrno()));
}

// HOME is what programs expect even when the engine gave none: as the container's own /etc/passwd
// says.
void AddHome(oci::Process& process) {
  const bool has = std::any_of(process.env.begin(), process.env.end(),
                               [](const std::string& entry) { return entry.starts_with("HOME="); });
  if (has) {
    return;
  }
  struct stat info {};
  const bool readable = ::stat("/etc/passwd", &info) == 0 && S_ISREG(info.st_mode);
  const auto passwd = readable ? sys::ReadFile("/etc/passwd").value_or("") : "";
  const auto user = oci::ResolveUserFrom(std::to_string(process.user.uid), passwd, "", {});
  process.env.push_back("HOME=" + (user ? user->home : "/"));
}

Status Run(LaunchRequest& request) {
  oci::Process& process = *request.spec.process;
  ResetSignals();
  TRY(sys::CheckCall(::setsid(), "setsid"));
  TRY(LimitProcess(request));
  if (request.kind == LaunchKind::kInit) {
    TRY(SetUpContainer(request));
  }
  TRY(SetUpStdio(request));
  if (request.kind == LaunchKind::kInit) {
    TRY(HidePaths(request.spec));
    TRY(FinishRoot(request.spec));
  }
  AddHome(process);
  // Before the filter and the drop: all else that is open goes at execve.
  TRY(sys::CheckCall(::syscall(SYS_close_range, 3, ~0U, 4U /* CLOSE_RANGE_CLOEXEC */),
                     "close_range"));
  TRY(DropPrivileges(request));
  const std::string path = TRY(FindCommand(process.args[0], process.env));
  TRY(ReportReady(request.sync.get()));
  TRY(WaitForGo(request.sync.get()));
  return Exec(path, process);
}

// Nothing of the guest's stays in reach: who shares its pid namespace may look at /proc/1/root, and
// a mount that it kept would keep the device below busy.
Status LeaveGuest(const LaunchRequest& request) {
  TRY(sys::CheckCall(::setsid(), "setsid"));
  if (!request.has_user_namespace()) {
    TRY(SetOomScore(kPodInitOomScore));
  }
  TRY(sys::Mount("", "/", "", MS_PRIVATE | MS_REC));
  TRY(sys::Mount("tmpfs", "/run", "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC));
  return PivotInto("/run");
}

Status RunPodInit(const LaunchRequest& request) {
  TRY(LeaveGuest(request));
  TRY(ReportReady(request.sync.get()));
  ReapForEver();
}

}  // namespace

Result<std::string> FindCommand(const std::string& command, const std::vector<std::string>& env) {
  if (command.find('/') != std::string::npos) {
    if (const int errnum = CheckExecutable(command); errnum != 0) {
      return tl::unexpected<Error>(NotRunnable(command, errnum));
    }
    return command;
  }
  std::string_view path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  for (const std::string& entry : env) {
    if (entry.starts_with("PATH=")) {
      path = std::string_view(entry).substr(5);
    }
  }
  bool denied = false;
  while (!command.empty() && !path.empty()) {
    const size_t colon = path.find(':');
    const std::string_view folder = path.substr(0, colon);
    const std::string file = fmt::format("{}/{}", folder.empty() ? "." : folder, command);
    const int errnum = CheckExecutable(file);
    if (errnum == 0) {
      return file;
    }
    denied = denied || errnum == EACCES;
    path = colon == std::string_view::npos ? "" : path.substr(colon + 1);
  }
  if (denied) {
    return tl::unexpected<Error>(NotRunnable(command, EACCES));
  }
  return MakeError(ErrorCode::kCommandNotFound, "exec: \"{}\": executable file not found in $PATH",
                   command);
}

void RunContainerInit(LaunchRequest& request) {
  // An exception (no memory) must not unwind into the zygote's own loop.
  try {
    const bool pod = request.kind == LaunchKind::kPodInit;
    if (auto status = pod ? RunPodInit(request) : Run(request); !status) {
      static_cast<void>(ReportFailed(request.sync.get(), status.error()));
    }
  } catch (const std::exception& error) {
    static_cast<void>(ReportFailed(request.sync.get(), {ErrorCode::kInternal, error.what()}));
  }
  ::_exit(127);
}

}  // namespace bulkhead::agent
