#include "shim/serve.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/spawn_thread.h"
#include "base/sys.h"
#include "base/temp_dir.h"
#include "rpc/ttrpc_server.h"
#include "shim/config.h"
#include "shim/fd_store.h"
#include "shim/inspection_service.h"
#include "shim/pod.h"
#include "shim/task_events.h"
#include "shim/task_service.h"

namespace bulkhead::shim {
namespace {

// How long the engine has to take the last events.
constexpr std::chrono::seconds kFlush(3);

std::string ExitRecord(const Result<ProcessExit>& exit) {
  const ProcessExit value = exit ? *exit : ProcessExit{125, 0, 0, false};
  return fmt::format(R"({{"exit_code":{},"signal":{},"oom_killed":{},"exited_at":"{}",)"
                     R"("error":{}}})"
                     "\n",
                     value.code, value.signal, value.oom_killed, UtcNow(0),
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
  if (!options.socket.empty()) {
    (void)sys::Unlink(options.socket);
  }
  if (options.auto_remove) {
    doomed.push_back(options.pod_dir);
  } else {
    for (const char* name :
         {"shim.sock", "shared", "bundle", "io", "etc", "lock", kFilterGroupFile}) {
      doomed.push_back(options.pod_dir + "/" + name);
    }
  }
  for (const std::string& path : doomed) {
    if (auto removed = RemoveTree(path); !removed) {
      logger.Warning(removed.error().message());
    }
  }
}

// For `bulkhead run`: a record of the end in the pod's folder, and word of it.
class RunEvents final : public PodEvents {
 public:
  RunEvents(std::string record, std::function<void()> on_end)
      : record_(std::move(record)), on_end_(std::move(on_end)) {}

  void Created(const CreateOptions& /*options*/, const Process& /*process*/) override {}
  void ExecAdded(const ProcessName& /*name*/) override {}
  void Started(const Process& /*process*/) override {}
  void Exited(const Process& process, const Result<ProcessExit>& exit) override {
    if (process.name().exec_id.empty()) {
      (void)sys::WriteFileAtomically(record_, ExitRecord(exit), 0600);
      on_end_();
    }
  }
  void Deleted(const Process& /*process*/, const ProcessExit& /*exit*/) override {}
  void Paused(const std::string& /*id*/) override {}
  void Resumed(const std::string& /*id*/) override {}
  void Oom(const std::string& /*id*/) override {}

 private:
  const std::string record_;
  const std::function<void()> on_end_;
};

// True: the pod itself is over; else it is to be ended.
bool AwaitEnd(const UniqueFd& over, const UniqueFd& signals, UniqueFd& lifeline) {
  while (true) {
    std::array<pollfd, 3> wakers{pollfd{over.get(), POLLIN, 0}, pollfd{signals.get(), POLLIN, 0},
                                 pollfd{lifeline.get(), POLLIN, 0}};
    if (::poll(wakers.data(), wakers.size(), -1) <= 0) {
      continue;
    }
    std::byte let_go{};
    if (wakers[0].revents != 0 || wakers[1].revents != 0 ||
        sys::Read(lifeline.get(), std::span(&let_go, 1)).value_or(0) == 0) {
      return wakers[0].revents != 0;
    }
    lifeline.Reset();
  }
}

std::unique_ptr<UserNetwork> StartUserNetwork(const ServeOptions& options, const Config& config,
                                              SpawnThread& spawner, Logger& logger) {
  if (options.network.empty()) {
    return nullptr;
  }
  UserNetworkOptions network;
  network.may_use_passt = config.user_backend != "slirp";
  network.may_use_slirp = config.user_backend != "passt";
  network.passt = FindPasst(config);
  network.ports = options.publish;
  auto filter = UserNetwork::MakeFilter(network);
  if (!filter && options.network == "auto") {
    logger.Warning(
        "the container has no network: it could not be kept from servers at this host's loopback "
        "addresses (127.0.0.1, ::1): " +
        filter.error().message() + "; --network user: all the same");
    return nullptr;
  }
  if (!filter) {
    logger.Warning(
        "servers at this host's loopback addresses (127.0.0.1, ::1) are not kept from the "
        "container: " +
        filter.error().message());
  }
  if (filter) {
    // For who clears up after a daemon that was killed.
    const Status noted = sys::WriteFile(options.pod_dir + "/" + kFilterGroupFile, filter->path());
    if (!noted) {
      logger.Warning(noted.error().message());
    }
  }
  return std::make_unique<UserNetwork>(std::move(network),
                                       filter ? std::optional(std::move(*filter)) : std::nullopt,
                                       spawner, logger);
}

PodOptions PodOptionsOf(const ServeOptions& options, FdStore* fds, UserNetwork* network) {
  const bool for_engine = !options.engine_namespace.empty();
  return {options.id,    options.pod_dir, for_engine ? "" : options.pod_dir + "/log",
          options.debug, for_engine,      options.engine_namespace,
          fds,           fds != nullptr,  network};
}

}  // namespace

Status Serve(ServeOptions options, Logger& logger) {
  Config config = TRY(LoadConfig(
      options.config.empty() ? std::nullopt : std::optional<std::string>(options.config)));
  if (!options.accel.empty()) {
    config.accel = options.accel;
  }
  UniqueFd lifeline(options.lifeline_fd);
  const UniqueFd lock(options.lock_fd);
  const UniqueFd signals = TRY(TerminationSignals());
  const UniqueFd over = TRY(sys::EventFd());
  const UniqueFd host_namespace = TRY(EnterOwnMountNamespace());

  SpawnThread spawner;
  std::unique_ptr<FdStore> fds;
  if (options.fds_socket_fd >= 0) {
    fds = TRY(FdStore::Serve(UniqueFd(options.fds_socket_fd), logger, {}));
  }
  auto network = StartUserNetwork(options, config, spawner, logger);
  const PodOptions pod_options = PodOptionsOf(options, fds.get(), network.get());
  EventPublisher publisher(options.ttrpc_address, options.engine_namespace, logger);
  std::unique_ptr<PodEvents> events;
  if (pod_options.for_engine) {
    TRY(sys::Chdir("/"));  // it started in a bundle, which is the engine's
    events = std::make_unique<TaskEvents>(publisher);
  } else {
    const bool detached = !lifeline.valid();
    events = std::make_unique<RunEvents>(options.pod_dir + "/exit.json", [&over, detached] {
      if (detached) {
        Wake(over);
      }
    });
  }
  Pod pod(config, pod_options, spawner, logger, *events);
  rpc::TtrpcServerOptions server_options;
  server_options.stop_grace = std::chrono::milliseconds(500);
  rpc::TtrpcServer server(server_options);
  RegisterTaskService(server, pod,
                      {pod_options.for_engine, fds != nullptr, fds.get(), [&] { Wake(over); }});
  RegisterInspectionService(server, pod);
  std::thread serving([&] {
    if (auto served = server.Serve(UniqueFd(options.socket_fd)); !served) {
      logger.Error(served.error().message());
    }
    Wake(over);
  });

  // A client that vanished asks for nothing any more: no record is kept for it.
  options.auto_remove = !AwaitEnd(over, signals, lifeline) || options.auto_remove;
  if (pod_options.for_engine) {
    server.Stop();  // who looks for the pod from now on shall not find it
  }
  pod.Shutdown();
  if (network) {
    network->Stop();
  }
  server.Stop();
  serving.join();
  if (!publisher.Flush(kFlush)) {
    logger.Warning("the engine did not take the last events in time");
  }
  RemoveFolders(options, host_namespace, logger);
  // Handlers may still hang in the guest's hands; whatever is ours goes with the process.
  ::_exit(0);
}

}  // namespace bulkhead::shim
