#include "agent/zygote.h"

#include <linux/sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <exception>

#include "agent/container_init.h"
#include "agent/scheduling.h"
#include "agent/user_stage.h"
#include "base/sys.h"

namespace bulkhead::agent {
namespace {

struct Cloned {
  pid_t pid;  // 0: this is the child
  UniqueFd pidfd;
};

// The glibc wrappers keep no state that a bare clone3 with a copied address space would break.
Result<Cloned> CloneSibling(uint64_t flags, int cgroup) {
  int pidfd = -1;
  clone_args arguments{};
  arguments.flags = flags | CLONE_PARENT | CLONE_PIDFD;
  arguments.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  if (cgroup >= 0) {
    arguments.flags |= CLONE_INTO_CGROUP;
    arguments.cgroup = static_cast<uint64_t>(cgroup);
  }
  const long pid = ::syscall(SYS_clone3, &arguments, sizeof(arguments));
  TRY(sys::CheckCall(pid, "clone3"));
  return Cloned{static_cast<pid_t>(pid), UniqueFd(pid > 0 ? pidfd : -1)};
}

Status CloneInit(LaunchRequest& request, int cgroup) {
  const Cloned cloned = TRY(CloneSibling(request.clone_flags, cgroup));
  if (cloned.pid == 0) {
    RunContainerInit(request);
  }
  return ReportBorn(request.sync.get(), cloned.pid, cloned.pidfd.get());
}

Status JoinNamespaces(LaunchRequest& request) {
  // The working folder of the guest means nothing in another mount namespace.
  for (size_t i = 0; i < request.join.size(); ++i) {
    if (auto joined = sys::SetNs(request.join[i].get(), request.join_types[i]); !joined) {
      if (joined.error().errnum() == ESRCH) {
        return MakeError(ErrorCode::kFailedPrecondition, "the container's init has ended");
      }
      return joined;
    }
  }
  request.join.clear();
  return {};
}

// A time namespace takes offsets only as long as nobody is in it: it is made here, for the child.
Status MakeTimeNamespace(LaunchRequest& request) {
  TRY(sys::Unshare(CLONE_NEWTIME));
  request.clone_flags &= ~uint64_t{CLONE_NEWTIME};
  for (const auto& [clock, offset] : request.spec.linux_.time_offsets) {
    TRY_AS(sys::WriteExisting("/proc/self/timens_offsets",
                              fmt::format("{} {} {}", clock, offset.secs, offset.nanosecs)),
           "linux.timeOffsets: {}", clock);
  }
  return {};
}

Status PrepareAndClone(LaunchRequest& request) {
  if (request.kind == LaunchKind::kExec && request.spec.process->exec_cpu_affinity) {
    TRY(SetCpuAffinity(request.spec.process->exec_cpu_affinity->initial));
  }
  if (request.has_user_namespace()) {
    TRY(PrepareForUserNamespace(request));
  }
  if (!request.spec.linux_.time_offsets.empty()) {
    TRY(MakeTimeNamespace(request));
  }
  TRY(JoinNamespaces(request));
  if (request.has_user_namespace()) {
    TRY(BecomeRootOfUserNamespace());
  }
  return CloneInit(request, -1);
}

[[noreturn]] void RunHelper(LaunchRequest& request) {
  // An exception (no memory) must not unwind into the zygote's own loop.
  try {
    if (auto status = PrepareAndClone(request); !status) {
      static_cast<void>(ReportFailed(request.sync.get(), status.error()));
    }
  } catch (const std::exception& error) {
    static_cast<void>(ReportFailed(request.sync.get(), {ErrorCode::kInternal, error.what()}));
  }
  ::_exit(0);
}

// In the zygote. A pid namespace is entered by children only, so joining takes one more process, as
// does a clock's offset. That is born in the cgroup: from inside another cgroup namespace the
// kernel would not find it.
Status Serve(LaunchRequest& request) {
  if (request.join.empty() && request.spec.linux_.time_offsets.empty()) {
    return CloneInit(request, request.cgroup.get());
  }
  const Cloned helper = TRY(CloneSibling(0, request.cgroup.get()));
  if (helper.pid == 0) {
    RunHelper(request);
  }
  return {};
}

[[noreturn]] void RunZygote(const UniqueFd& socket) {
  ::prctl(PR_SET_NAME, "bulkhead-zygote");
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  while (true) {
    auto request = ReceiveLaunch(socket.get());
    if (request && !*request) {
      ::_exit(0);
    }
    if (!request) {
      continue;  // its sync socket went with the message: the agent sees the end of it
    }
    if (auto status = Serve(**request); !status) {
      static_cast<void>(ReportFailed((*request)->sync.get(), status.error()));
    }
  }
}

}  // namespace

Result<Zygote> Zygote::Start() {
  auto [ours, theirs] = TRY(sys::MakeSocketPair(SOCK_SEQPACKET));
  const pid_t pid = ::fork();
  TRY(sys::CheckCall(pid, "fork"));
  if (pid == 0) {
    ours.Reset();
    RunZygote(theirs);
  }
  return Zygote(pid, std::move(ours));
}

}  // namespace bulkhead::agent
