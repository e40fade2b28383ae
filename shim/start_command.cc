#include "shim/start_command.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "base/child.h"
#include "base/scope_guard.h"
#include "base/sys.h"
#include "oci/spec.h"
#include "shim/bootstrap.h"
#include "shim/config.h"
#include "shim/engine_pod.h"
#include "shim/guest_spec.h"
#include "shim/host_namespaces.h"

namespace bulkhead::shim {
namespace {

constexpr size_t kMaxSpecBytes = 4U << 20U;
// How long a daemon that is on its way out may take.
constexpr std::chrono::seconds kPatience(10);
constexpr int kMaxOomScore = 1000;

// Options may carry a file's text instead of its path.
Result<Config> LoadPodConfig(const RuntimeOptions& options) {
  return options.config_body ? ParseConfig(*options.config_body, "the engine's configuration")
                             : LoadConfig(options.config_path);
}

// As runc's shim: a daemon goes a little before the engine when memory is short.
Status RaiseOomScore(pid_t pid) {
  const std::string text = TRY(sys::ReadFile("/proc/self/oom_score_adj", 32));
  int score = 0;
  (void)std::from_chars(text.data(), text.data() + text.size(), score);
  return sys::WriteFile(fmt::format("/proc/{}/oom_score_adj", pid),
                        std::to_string(std::min(score + 1, kMaxOomScore)));
}

// The bundle's fifo, which the engine copies into its log. Neither an absent reader nor a slow one
// may hold the daemon up.
UniqueFd OpenLog() {
  auto log = sys::Open("log", O_RDWR | O_NONBLOCK);
  return log ? std::move(*log) : UniqueFd();
}

class Starter {
 public:
  Starter(const ShimFlags& flags, const StartRequest& request, Config config, EnginePod pod)
      : flags_(flags), request_(request), pod_(std::move(pod)), config_(std::move(config)) {}

  bool DaemonAnswers() const { return sys::ConnectUnix(pod_.socket).has_value(); }
  const EnginePod& pod() const { return pod_; }

  // A new daemon; or, when the engine asks once more, the one there is.
  Status StartDaemon() {
    TRY(sys::MkdirAll(config_.state_dir + "/engine", 0700));
    TRY(sys::MkdirAll(pod_.socket.substr(0, pod_.socket.rfind('/')), 0711));
    if (sys::Exists(pod_.folder)) {
      const auto stale = pod_.Lock(DaemonAnswers() ? std::chrono::seconds(0) : kPatience);
      if (!stale && stale.error().code() == ErrorCode::kUnavailable && DaemonAnswers()) {
        return {};
      }
      TRY(pod_.Remove());
    }
    TRY(sys::Mkdir(pod_.folder, 0700));
    ScopeGuard cleanup([this] { (void)pod_.Remove(); });
    TRY(sys::WriteFile(pod_.lock(), "", 0600));
    TRY(Spawn(TRY(pod_.Lock(std::chrono::seconds(0)))));
    cleanup.Dismiss();
    return {};
  }

  // Until then the daemon ends with this process: the engine does not know of it.
  void LetGo() const {
    if (lifeline_) {
      const std::byte byte{};
      (void)sys::Write(lifeline_.get(), std::span(&byte, 1));
    }
  }

 private:
  Status Spawn(const UniqueFd& lock) {
    (void)sys::Unlink(pod_.socket);
    const UniqueFd socket = TRY(sys::ListenUnix(pod_.socket, 0600));
    const UniqueFd log = OpenLog();
    SpawnOptions spawn;
    spawn.argv = {TRY(sys::ReadLink("/proc/self/exe")),
                  "serve",
                  "--id=" + flags_.id,
                  "--namespace=" + flags_.container_namespace,
                  "--pod-dir=" + pod_.folder,
                  "--socket=" + pod_.socket,
                  "--ttrpc-address=" + request_.ttrpc_address,
                  "--socket-fd=3",
                  "--lock-fd=4",
                  "--lifeline-fd=5",
                  "--auto-remove"};
    sys::Pipe lifeline = TRY(sys::MakePipe());
    spawn.fds = {{socket.get(), 3}, {lock.get(), 4}, {lifeline.read.get(), 5}};
    if (log) {
      spawn.fds.push_back({log.get(), STDERR_FILENO});
    }
    TRY(AddConfig(spawn.argv));
    if (request_.debug) {
      spawn.argv.emplace_back("--debug");
    }
    spawn.death_signal = 0;
    spawn.new_session = true;
    Child daemon = TRY(Child::Spawn(spawn));
    TRY(RaiseOomScore(daemon.pid()));
    TRY(pod_.RecordDaemon(daemon.pid()));
    daemon.Detach();
    lifeline_ = std::move(lifeline.write);
    return {};
  }

  Status AddConfig(std::vector<std::string>& argv) const {
    if (request_.options.config_body) {
      const std::string file = pod_.folder + "/config.toml";
      TRY(sys::WriteFile(file, *request_.options.config_body, 0600));
      argv.push_back("--config=" + file);
    } else if (!config_.source.empty()) {
      argv.push_back("--config=" + config_.source);
    }
    return {};
  }

  const ShimFlags& flags_;
  const StartRequest& request_;
  const EnginePod pod_;
  const Config config_;
  UniqueFd lifeline_;
};

// Where the namespaces are that the container asks to share, as `docker run --network container:X`:
// in the VM of the container whose stand-in names them.
Result<std::optional<EnginePod>> JoinedPod(const oci::Spec& spec, const Config& config,
                                           const ShimFlags& flags) {
  std::optional<EnginePod> found;
  for (const JoinedProcess& joined : JoinedProcesses(spec)) {
    const auto daemon = ParentOf(joined.pid);
    auto pod = daemon
                   ? EnginePod::OfDaemon(config, flags.address, flags.container_namespace, *daemon)
                   : std::nullopt;
    if (!pod && joined.type != "network") {  // a network may be anybody's
      return MakeError(ErrorCode::kInvalidArgument,
                       "linux.namespaces: {}: {} belongs to no container in a virtual machine of "
                       "ours, which alone could be joined",
                       joined.type, joined.path);
    }
    if (pod && found && pod->folder != found->folder) {
      return MakeError(ErrorCode::kInvalidArgument,
                       "linux.namespaces: {}: {} is in another virtual machine than the others",
                       joined.type, joined.path);
    }
    if (pod) {
      found = std::move(pod);
    }
  }
  return found;
}

}  // namespace

Result<std::string> RunStart(const ShimFlags& flags, Logger& logger) {
  const std::string input = TRY(ReadStartInput(STDIN_FILENO));
  const StartRequest request =
      TRY(ParseStartRequest(input, flags, StartEnvironment::OfProcess(), logger));
  Config config = TRY(LoadPodConfig(request.options));
  const oci::Spec spec = TRY(oci::ParseSpec(TRY(sys::ReadFile("config.json", kMaxSpecBytes))));
  TRY(ApplyAnnotations(config, spec.annotations));
  const PodRole role = TRY(RoleOf(spec.annotations, flags.id));
  const bool member = role.kind == PodRole::Kind::kMember;
  std::optional<EnginePod> joined;
  if (role.kind == PodRole::Kind::kAlone) {
    TRY(RefuseHostNetwork(spec, NamespaceOnHost));
    joined = TRY(JoinedPod(spec, config, flags));
  }
  const auto pod_of = [&](const std::string& id) {
    return EnginePod(config, flags.address, flags.container_namespace, id, request.socket_dir);
  };
  EnginePod pod = joined ? *joined : pod_of(member ? role.sandbox_id : flags.id);
  const bool own = !member && !joined;
  const bool again = EnginePod::OfBundle(".").has_value();
  if (role.kind == PodRole::Kind::kAlone && own && !again && sys::ConnectUnix(pod.socket)) {
    // An earlier life of the container, which another joined, left its pod to that one.
    pod = pod_of(fmt::format("{}/{}.{}", flags.id, ::getpid(), TRY(ProcessStartTime(::getpid()))));
  }
  Starter starter(flags, request, std::move(config), std::move(pod));
  if (member && !starter.DaemonAnswers()) {
    return MakeError(ErrorCode::kFailedPrecondition, "container {}: its sandbox {} does not run",
                     flags.id, role.sandbox_id);
  }
  TRY(starter.pod().RecordIn("."));  // first: `delete` is to find whatever is made
  if (own) {
    TRY(starter.StartDaemon());
  }
  TRY(sys::WriteFileAtomically("address", starter.pod().address(), 0600));
  starter.LetGo();
  return FormatStartAnswer(request.answer, starter.pod().address());
}

}  // namespace bulkhead::shim
