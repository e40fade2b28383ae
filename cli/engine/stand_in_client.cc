#include "cli/engine/stand_in_client.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/sys.h"
#include "cli/pod_folder.h"
#include "cli/terminal.h"
#include "shim/config.h"
#include "shim/fd_store.h"

namespace bulkhead::cli {

Result<HostProcess> HostProcess::Start(const shim::NetworkNamespace& network,
                                       const HostCgroup& cgroup, const oci::Process& guest,
                                       const std::string& bundle, const ProcessFiles& files) {
  sys::SocketPair channel = TRY(sys::MakeSocketPair(SOCK_SEQPACKET));
  std::optional<Pty> pty;
  shim::StandInSpec spec;
  spec.program = TRY(ProgramFolder()) + "/containerd-shim-bulkhead-v2";
  spec.title = guest.args;
  spec.network = network;
  spec.bundle = bundle;
  spec.channel = channel.second.get();
  if (guest.terminal && !files.console_socket.empty()) {
    pty = TRY(OpenPty(guest.console_size));
    spec.terminal = pty->slave.get();
    spec.controlling = true;
  } else if (guest.terminal) {
    spec.terminal = STDIN_FILENO;
  }
  HostProcess process(TRY(
      shim::SpawnStandIn(spec, [](const SpawnOptions& options) { return Child::Spawn(options); })));
  TRY(cgroup.Add(process.pid()));
  process.channel_ = std::move(channel.first);
  process.pty_ = std::move(pty);
  process.passed_ = files.was_open;
  process.terminal_ = guest.terminal;
  return process;
}

Status HostProcess::HandOver(const shim::EnginePod& pod, const std::string& console_socket) {
  ref_ = {child_.pid(), RandomHex(32)};
  const UniqueFd mounts = TRY(sys::Open("/proc/self/ns/mnt", O_RDONLY));
  std::vector<shim::NamedFd> fds{
      {"pidfd", child_.pidfd()}, {"channel", channel_.get()}, {"mounts", mounts.get()}};
  const auto add = [&](const char* name, int fd, std::string& path) {
    fds.push_back({name, fd});
    path = fmt::format("fd://{}/{}", ref_.token, name);
  };
  if (terminal_) {
    add("stdin", pty_ ? pty_->slave.get() : STDIN_FILENO, stdio_.in);
    add("stdout", pty_ ? pty_->slave.get() : STDOUT_FILENO, stdio_.out);
  } else {
    const std::array<std::pair<const char*, std::string*>, 3> streams{
        {{"stdin", &stdio_.in}, {"stdout", &stdio_.out}, {"stderr", &stdio_.err}}};
    for (int fd = 0; fd <= 2; ++fd) {
      const auto index = static_cast<size_t>(fd);
      if (passed_.at(index)) {
        add(streams.at(index).first, fd, *streams.at(index).second);
      }
    }
  }
  TRY(shim::HandOverFds(pod.fds_socket(), ref_.token, fds));
  channel_.Reset();
  if (pty_) {
    TRY(SendConsole(console_socket, *pty_));
    pty_.reset();
  }
  return {};
}

Result<int> HostProcess::Wait() {
  sigset_t set;
  ::sigfillset(&set);
  for (const int number :
       {SIGCHLD, SIGPIPE, SIGURG, SIGTTIN, SIGTTOU, SIGSEGV, SIGBUS, SIGILL, SIGFPE}) {
    ::sigdelset(&set, number);
  }
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  const UniqueFd signals(::signalfd(-1, &set, SFD_CLOEXEC));
  TRY(sys::CheckCall(signals.get(), "signalfd"));
  while (true) {
    std::array<pollfd, 2> events{pollfd{child_.pidfd(), POLLIN, 0},
                                 pollfd{signals.get(), POLLIN, 0}};
    if (::poll(events.data(), events.size(), -1) <= 0) {
      continue;
    }
    signalfd_siginfo info{};
    if (events[1].revents != 0 && ::read(signals.get(), &info, sizeof(info)) == sizeof(info)) {
      (void)child_.Signal(static_cast<int>(info.ssi_signo));
    }
    if (events[0].revents != 0) {
      return TRY(child_.Wait(std::nullopt))->ShellCode();
    }
  }
}

Status WritePidFile(const std::string& path, pid_t pid) {
  return path.empty() ? Status() : sys::WriteFileAtomically(path, std::to_string(pid), 0644);
}

}  // namespace bulkhead::cli
