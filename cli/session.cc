#include "cli/session.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <thread>

#include "base/sys.h"
#include "cli/terminal.h"

namespace bulkhead::cli {
namespace {

constexpr std::chrono::seconds kGrace{10};

sigset_t Signals() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal :
       {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGALRM, SIGCONT}) {
    ::sigaddset(&set, signal);
  }
  return set;
}

std::string SignalName(int signal) {
  const char* name = ::sigabbrev_np(signal);
  return name != nullptr ? fmt::format("SIG{}", name) : fmt::format("signal {}", signal);
}

}  // namespace

void BlockSignals() {
  const sigset_t set = Signals();
  (void)::sigprocmask(SIG_BLOCK, &set, nullptr);
}

Result<int> Session::Run(std::function<Result<int>()> work) {
  const sigset_t set = Signals();
  const UniqueFd signals(::signalfd(-1, &set, SFD_CLOEXEC));
  TRY(sys::CheckCall(signals.get(), "signalfd"));
  const UniqueFd done = TRY(sys::EventFd());
  if (time_limit_) {
    deadline_ = Clock::now() + *time_limit_;
  }
  Result<int> answer = 0;
  std::thread worker([&] {
    answer = work();
    (void)sys::WriteAll(done.get(), std::string_view("\1\0\0\0\0\0\0\0", 8));
  });
  Loop(signals.get(), done.get());
  worker.join();
  if (forced_exit_) {
    return *forced_exit_;
  }
  return answer;
}

void Session::Loop(int signals, int done) {
  while (true) {
    int wait = -1;
    if (deadline_) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline_ - Clock::now());
      wait = static_cast<int>(std::clamp<int64_t>(left.count(), 0, 3600 * 1000));
    }
    std::array<pollfd, 2> polls{pollfd{signals, POLLIN, 0}, pollfd{done, POLLIN, 0}};
    (void)::poll(polls.data(), polls.size(), wait);
    if (polls[1].revents != 0) {
      return;
    }
    signalfd_siginfo info{};
    if (polls[0].revents != 0 &&
        sys::Read(signals, std::as_writable_bytes(std::span(&info, 1))).value_or(0) != 0) {
      TakeSignal(static_cast<int>(info.ssi_signo));
    }
    if (deadline_ && Clock::now() >= *deadline_) {
      TimeIsUp();
    }
  }
}

void Session::OnAbort(std::function<void()> abort) {
  const std::lock_guard lock(mutex_);
  abort_ = std::move(abort);
}

void Session::Started(TaskClient* client, const std::string& exec_id, bool terminal) {
  {
    const std::lock_guard lock(mutex_);
    client_ = client;
    exec_id_ = exec_id;
    terminal_ = terminal;
  }
  Resize();
}

void Session::Ended() {
  const std::lock_guard lock(mutex_);
  client_ = nullptr;
}

void Session::Resize() {
  const std::lock_guard lock(mutex_);
  const auto size = TerminalSize();
  if (client_ != nullptr && terminal_ && size) {
    (void)client_->Resize(exec_id_, size->width, size->height);  // it may have ended
  }
}

bool Session::Send(int signal) {
  const std::lock_guard lock(mutex_);
  if (client_ == nullptr) {
    return false;
  }
  if (const Status sent = client_->Kill(exec_id_, signal); !sent) {
    const ErrorCode code = sent.error().code();  // it may have ended just now
    if (code != ErrorCode::kNotFound && code != ErrorCode::kFailedPrecondition) {
      context_.Warn(fmt::format("cannot send {}: {}", SignalName(signal), sent.error().message()));
    }
  }
  return true;
}

void Session::TakeSignal(int signal) {
  if (signal == SIGWINCH) {
    Resize();
    return;
  }
  const bool to_end = signal == SIGINT || signal == SIGTERM;
  asked_to_end_ += to_end ? 1 : 0;
  bool sent = false;
  if (to_end && asked_to_end_ == 3) {
    context_.Warn(fmt::format("third {}: killing it", SignalName(signal)));
    sent = Send(SIGKILL);
  } else if (to_end && asked_to_end_ > 3) {
    Abort(128 + signal);
    return;
  } else {
    sent = Send(signal);
  }
  const bool harmless = signal == SIGCONT;
  if (!sent && !harmless) {
    Abort(128 + signal);
  }
}

void Session::TimeIsUp() {
  forced_exit_ = kExitTimeout;
  const double seconds = std::chrono::duration<double>(*time_limit_).count();
  ++time_up_step_;
  deadline_ = Clock::now() + kGrace;
  if (time_up_step_ == 1) {
    if (Send(stop_signal_)) {
      context_.Complain(fmt::format("--timeout: not done after {:g} s, sent {}", seconds,
                                    SignalName(stop_signal_.load())));
    } else {
      context_.Complain(fmt::format("--timeout: not started after {:g} s", seconds));
      deadline_.reset();
      Abort(kExitTimeout);
    }
  } else if (time_up_step_ == 2) {
    context_.Complain("--timeout: still there after 10 s more, killed");
    (void)Send(SIGKILL);
  } else {
    deadline_.reset();
    Abort(kExitTimeout);
  }
}

bool Session::aborted() {
  const std::lock_guard lock(mutex_);
  return aborted_;
}

void Session::Abort(int exit_code) {
  const std::lock_guard lock(mutex_);
  forced_exit_ = exit_code;
  aborted_ = true;
  if (!abort_) {
    ::_exit(exit_code);  // nothing is made yet that would stay
  }
  abort_();
}

}  // namespace bulkhead::cli
