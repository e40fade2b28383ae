#include "agent/reaper.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include <array>

namespace bulkhead::agent {

Result<std::unique_ptr<Reaper>> Reaper::Create() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  TRY(sys::CheckCall(::sigprocmask(SIG_BLOCK, &set, nullptr), "block SIGCHLD"));
  UniqueFd signals(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  TRY(sys::CheckCall(signals.get(), "signalfd"));
  UniqueFd wake = TRY(sys::EventFd());  // not inside `new`: its memory would be lost by a return
  return std::unique_ptr<Reaper>(new Reaper(std::move(signals), std::move(wake)));
}

Reaper::~Reaper() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  Wake();
  if (thread_.joinable()) {
    thread_.join();
  }
}

void Reaper::Start() {
  thread_ = std::thread([this] { Run(); });
}

Reaper::Launch::Launch(Reaper& reaper) : reaper_(reaper) {
  const std::scoped_lock lock(reaper_.mutex_);
  ++reaper_.launches_;
}

Reaper::Launch::~Launch() {
  {
    const std::scoped_lock lock(reaper_.mutex_);
    --reaper_.launches_;
  }
  reaper_.Wake();
}

void Reaper::Manage(pid_t pid, OnExit on_exit) {
  const std::scoped_lock lock(mutex_);
  managed_.emplace(pid, std::move(on_exit));
}

void Reaper::Wake() {
  const uint64_t one = 1;
  static_cast<void>(sys::Write(wake_.get(), std::as_bytes(std::span(&one, 1))));
}

void Reaper::Run() {
  std::array<pollfd, 2> fds{pollfd{signals_.get(), POLLIN, 0}, pollfd{wake_.get(), POLLIN, 0}};
  std::array<std::byte, sizeof(signalfd_siginfo) * 16> buffer{};
  while (true) {
    ::poll(fds.data(), fds.size(), -1);
    for (const pollfd& entry : fds) {
      if (entry.revents != 0) {
        static_cast<void>(sys::Read(entry.fd, buffer));
      }
    }
    {
      const std::scoped_lock lock(mutex_);
      if (stopping_) {
        return;
      }
    }
    Sweep();
  }
}

void Reaper::Sweep() {
  while (ReapOne()) {
  }
}

// Looks first and reaps after: until then the pid cannot be anybody else's.
bool Reaper::ReapOne() {
  siginfo_t info{};
  if (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0) {
    return false;
  }
  OnExit on_exit;
  {
    const std::scoped_lock lock(mutex_);
    const auto found = managed_.find(info.si_pid);
    if (found == managed_.end() && launches_ > 0) {
      return false;  // the end of the launch wakes us again
    }
    if (found != managed_.end()) {
      on_exit = std::move(found->second);
      managed_.erase(found);
    }
  }
  ::waitid(P_PID, static_cast<id_t>(info.si_pid), &info, WEXITED | WNOHANG);
  if (on_exit) {
    on_exit(info.si_code == CLD_EXITED ? sys::Exit{info.si_status, 0}
                                       : sys::Exit{0, info.si_status});
  }
  return true;
}

}  // namespace bulkhead::agent
