// containerd-shim-bulkhead-v2: the daemon of one pod.
//
//   containerd-shim-bulkhead-v2 serve --id ID --pod-dir DIR --socket-fd N [...]
//
// Serves the Task API until the pod is over, then removes what the pod had on the host.

#include <fcntl.h>
#include <fmt/chrono.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "base/log.h"
#include "base/spawn_thread.h"
#include "base/sys.h"
#include "base/temp_dir.h"
#include "rpc/ttrpc_server.h"
#include "shim/config.h"
#include "shim/pod.h"
#include "shim/serve_options.h"
#include "shim/task_service.h"

namespace bulkhead::shim {
namespace {

constexpr char kProgram[] = "bulkhead";  // what users know; the shim is a part of it

std::string ExitRecord(const Result<ProcessExit>& exit) {
  const auto now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  const ProcessExit value = exit ? *exit : ProcessExit{125, 0, 0, false};
  return fmt::format(
      R"({{"exit_code":{},"signal":{},"oom_killed":{},"exited_at":"{:%Y-%m-%dT%H:%M:%SZ}",)"
      R"("error":{}}})"
      "\n",
      value.code, value.signal, value.oom_killed, fmt::gmtime(now),
      JsonQuote(exit ? "" : exit.error().message()));
}

// A signalfd for SIGTERM and SIGINT; blocks them in every thread made after.
Result<UniqueFd> TerminationSignals() {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGTERM);
  ::sigaddset(&set, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  UniqueFd fd(::signalfd(-1, &set, SFD_CLOEXEC));
  if (!fd) {
    return MakeError(ErrorCode::kInternal, "signalfd failed");
  }
  return fd;
}

void Wake(const UniqueFd& event) {
  const uint64_t one = 1;
  (void)sys::Write(event.get(), std::as_bytes(std::span(&one, 1)));
}

// In the host's mount namespace, where nothing of the pod is mounted.
void RemoveFolders(const ServeOptions& options, const UniqueFd& host_namespace, Logger& logger) {
  if (auto left = LeaveToMountNamespace(host_namespace); !left) {
    logger.Error("the pod's folders stay: " + left.error().message());
    return;
  }
  std::vector<std::string> doomed;
  if (!options.data_dir.empty()) {
    doomed.push_back(options.data_dir);
  }
  if (options.auto_remove) {
    doomed.push_back(options.pod_dir);
  } else {
    for (const char* name : {"shim.sock", "shared", "bundle", "io", "etc", "lock"}) {
      doomed.push_back(options.pod_dir + "/" + name);
    }
  }
  for (const std::string& path : doomed) {
    if (auto removed = RemoveTree(path); !removed) {
      logger.Warning(removed.error().message());
    }
  }
}

Status Serve(ServeOptions options, Logger& logger) {
  Config config = TRY(LoadConfig(
      options.config.empty() ? std::nullopt : std::optional<std::string>(options.config)));
  if (!options.accel.empty()) {
    config.accel = options.accel;
  }
  const UniqueFd lifeline(options.lifeline_fd);
  const UniqueFd lock(options.lock_fd);
  const UniqueFd signals = TRY(TerminationSignals());
  const UniqueFd over = TRY(sys::EventFd());
  const UniqueFd host_namespace = TRY(EnterOwnMountNamespace());

  SpawnThread spawner;
  const bool detached = !lifeline.valid();
  Pod pod(config, {options.id, options.pod_dir, options.pod_dir + "/log", options.debug}, spawner,
          logger, [&](const Result<ProcessExit>& exit) {
            (void)sys::WriteFileAtomically(options.pod_dir + "/exit.json", ExitRecord(exit), 0600);
            if (detached) {
              Wake(over);
            }
          });
  rpc::TtrpcServerOptions server_options;
  server_options.stop_grace = std::chrono::milliseconds(500);
  rpc::TtrpcServer server(server_options);
  RegisterTaskService(server, pod, [&] { Wake(over); });
  std::thread serving([&] {
    if (auto served = server.Serve(UniqueFd(options.socket_fd)); !served) {
      logger.Error(served.error().message());
    }
    Wake(over);
  });

  std::array<pollfd, 3> events{pollfd{over.get(), POLLIN, 0}, pollfd{signals.get(), POLLIN, 0},
                               pollfd{lifeline.get(), POLLIN, 0}};
  while (::poll(events.data(), events.size(), -1) <= 0) {
  }
  // A client that vanished asks for nothing any more: no record is kept for it.
  options.auto_remove = options.auto_remove || events[0].revents == 0;
  pod.Shutdown();
  server.Stop();
  serving.join();
  RemoveFolders(options, host_namespace, logger);
  // Handlers may still hang in the guest's hands; whatever is ours goes with the process.
  ::_exit(0);
}

int Main(const std::vector<std::string>& arguments) {
  if (arguments.empty() || arguments[0] != "serve") {
    if (!arguments.empty() && (arguments[0] == "--version" || arguments[0] == "-v")) {
      fmt::print("containerd-shim-bulkhead-v2 {}\n", BULKHEAD_VERSION);
      return 0;
    }
    fmt::print(stderr,
               "containerd-shim-bulkhead-v2: the daemon of one pod, started by `bulkhead run`.\n"
               "It does not speak containerd's start protocol yet: only `serve` exists.\n");
    return 2;
  }
  ::signal(SIGPIPE, SIG_IGN);
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  const auto options = ParseServeOptions({arguments.begin() + 1, arguments.end()});
  Logger logger(kProgram, STDERR_FILENO, options ? options->log_format : LogFormat::kText,
                options && options->debug ? LogLevel::kDebug : LogLevel::kInfo);
  if (!options) {
    logger.Error(options.error().message());
    return 2;
  }
  if (auto served = Serve(*options, logger); !served) {
    logger.Error(served.error().message());
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace bulkhead::shim

int main(int argc, char** argv) { return bulkhead::shim::Main({argv + 1, argv + argc}); }
