#include "agent/birth.h"

#include <signal.h>

#include <optional>
#include <utility>

namespace bulkhead::agent {
namespace {

// The reports of a process in the making, until it is ready.
Status Follow(Reaper& reaper, std::optional<Reaper::Launch>& launch, Process& process,
              const Reaper::OnExit& on_exit, Newborn& out) {
  std::optional<Error> failure;
  bool ready = false;
  while (!(ready && process.pid() > 0)) {
    auto report = TRY(ReceiveReport(out.sync.get()));
    if (!report) {
      break;
    }
    switch (report->kind) {
      case LaunchReport::Kind::kBorn:
        process.Born(report->pid, std::move(report->fds.at(0)));
        reaper.Manage(report->pid, on_exit);
        launch.reset();
        break;
      case LaunchReport::Kind::kTerminal:
        out.terminal = std::move(report->fds.at(0));
        break;
      case LaunchReport::Kind::kReady:
        ready = true;
        break;
      case LaunchReport::Kind::kFailed:
        failure = std::move(report->error);
        break;
    }
  }
  if (failure) {
    return tl::unexpected<Error>(*failure);
  }
  if (!ready || process.pid() <= 0) {
    return MakeError(ErrorCode::kInternal, "the process ended before it was ready");
  }
  return {};
}

}  // namespace

Result<Newborn> MakeProcess(const Zygote& zygote, Reaper& reaper, LaunchRequest request,
                            const std::shared_ptr<Process>& process,
                            const Reaper::OnExit& on_exit) {
  Newborn out;
  auto [sync, theirs] = TRY(sys::MakeSocketPair(SOCK_SEQPACKET));
  out.sync = std::move(sync);
  request.sync = std::move(theirs);
  std::optional<Reaper::Launch> launch(std::in_place, reaper);
  TRY(zygote.Launch(request));
  request = {};  // our copies of the child's fds
  if (auto status = Follow(reaper, launch, *process, on_exit, out); !status) {
    launch.reset();
    if (process->pid() > 0) {
      static_cast<void>(process->Signal(SIGKILL));
      process->WaitForExit();
    }
    return tl::unexpected<Error>(std::move(status).error());
  }
  return out;
}

}  // namespace bulkhead::agent
