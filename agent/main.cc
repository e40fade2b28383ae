// bulkhead-agent: PID 1 of the guest. See init.h for its kernel command line options.
#include <fcntl.h>
#include <grpc/support/time.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <string_view>
#include <thread>

#include "agent/agent_service.h"
#include "agent/channel.h"
#include "agent/init.h"
#include "agent/mini_init.h"
#include "base/log.h"
#include "rpc/channel.h"

// What gRPC takes the time by.
extern gpr_timespec (*gpr_now_impl)(gpr_clock_type clock_type);

namespace bulkhead::agent {
namespace {

constexpr char kVersion[] = "0.1.0";

// gRPC 1.51 starts by sleeping until CLOCK_MONOTONIC is past two seconds (InitTime, core/lib/gprpp/
// time.cc): a second of a guest's start. It is given a monotonic clock that began earlier.
gpr_timespec OldClock(gpr_clock_type type) {
  constexpr int64_t kHeadStart = 1000;
  const bool monotonic = type == GPR_CLOCK_MONOTONIC;
  timespec now{};
  ::clock_gettime(monotonic ? CLOCK_MONOTONIC : CLOCK_REALTIME, &now);
  return {now.tv_sec + (monotonic ? kHeadStart : 0), static_cast<int32_t>(now.tv_nsec), type};
}

// stdin is nothing, stdout and stderr the console, or the kernel's log when there is none.
Status OpenConsole() {
  const UniqueFd null = TRY(sys::Open("/dev/null", O_RDONLY));
  auto console = sys::Open("/dev/console", O_WRONLY | O_NOCTTY);
  if (!console) {
    console = sys::Open("/dev/kmsg", O_WRONLY);
  }
  const UniqueFd output = TRY(std::move(console));
  TRY(sys::CheckCall(::dup2(null.get(), 0), "dup2"));
  TRY(sys::CheckCall(::dup2(output.get(), 1), "dup2"));
  TRY(sys::CheckCall(::dup2(output.get(), 2), "dup2"));
  return {};
}

Status Run() {
  const uint64_t started_us = MonotonicMicroseconds();
  gpr_now_impl = &OldClock;
  Timeline timeline;
  TRY(SetUpGuest(timeline));
  TRY(OpenConsole());
  const AgentOptions options = TRY(ParseCommandLine(TRY(sys::ReadFile("/proc/cmdline"))));
  Logger log("bulkhead-agent", STDERR_FILENO, LogFormat::kText,
             options.debug ? LogLevel::kDebug : LogLevel::kWarning);
  // No thread before the fork; SIGPIPE is ignored after it, so that containers do not inherit it.
  const auto reaper = TRY(Reaper::Create());
  const Zygote zygote = TRY(Zygote::Start());
  timeline.Mark("zygote forked");
  ::signal(SIGPIPE, SIG_IGN);
  reaper->Start();
  const auto io = TRY(IoLoop::Create());
  timeline.Mark("reaper and io loop started");
  EventFeed events;
  const auto oom =
      TRY(OomWatch::Create(*io, [&events](const std::string& id) { events.PublishOom(id); }));
  PodPidNamespace pod_pid(zygote, *reaper);
  PodUserNamespaces pod_users;
  SharedFolders folders;
  HugePages huge_pages;
  Containers containers(Workshop{zygote, *reaper, *io, *oom, pod_pid, pod_users, folders,
                                 huge_pages, "/sys/fs/cgroup", true});
  AgentService service(containers, events, huge_pages, *io,
                       {kVersion, started_us, [] { PowerOff(); }}, log);
  timeline.Mark("service made");
  const auto server = StartServer(service);
  service.MarkReady(MonotonicMicroseconds());
  timeline.Mark("server started");
  log.Debug("phases of the start:\n" + timeline.ToText());
  return RunChannel(
      options, [&](UniqueFd fd) { rpc::ServeFd(*server, std::move(fd)); }, log);
}

}  // namespace
}  // namespace bulkhead::agent

int main(int argc, char** argv) {
  // As a container's own init: "bulkhead-agent container-init -- COMMAND...".
  if (argc > 3 && std::string_view(argv[1]) == "container-init") {
    return bulkhead::agent::RunMiniInit(argv + 3);
  }
  if (::getpid() != 1) {
    static constexpr char kText[] = "bulkhead-agent: runs only as PID 1 of a Bulkhead guest\n";
    return ::write(STDERR_FILENO, kText, sizeof(kText) - 1) > 0 ? 1 : 2;
  }
  if (const auto status = bulkhead::agent::Run(); !status) {
    bulkhead::Logger("bulkhead-agent", STDERR_FILENO, bulkhead::LogFormat::kText,
                     bulkhead::LogLevel::kDebug)
        .Error("fatal: " + status.error().message());
  }
  bulkhead::agent::PowerOff();
}
