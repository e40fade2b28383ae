#include "cli/daemon.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "base/sys.h"
#include "containerd/task.pb.h"
#include "shim/stand_in.h"

namespace bulkhead::cli {
namespace {

namespace task = ::containerd::task::v2;

constexpr char kService[] = "containerd.task.v2.Task";
constexpr char kProcessTypeUrl[] = "types.containerd.io/opencontainers/runtime-spec/1/Process";
constexpr char kResourcesTypeUrl[] =
    "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";
constexpr std::chrono::seconds kShort{10};  // for calls that have nothing to wait for

// The answer of a method does not matter, only whether it worked.
template <class Request>
Status CallPlain(rpc::TtrpcClient& client, const char* method, const Request& request,
                 TaskClient::Timeout timeout, const rpc::TtrpcClient::Metadata& metadata = {}) {
  std::string payload;
  request.SerializeToString(&payload);
  TRY(client.Call(kService, method, std::string_view(payload), timeout, metadata));
  return {};
}

rpc::TtrpcClient::Metadata MetadataOf(const std::optional<StandInRef>& stand_in) {
  if (!stand_in) {
    return {};
  }
  return {{shim::kStandInMetadata, fmt::format("{} {}", stand_in->pid, stand_in->token)}};
}

Result<TaskStatus> ToStatus(task::Status status) {
  switch (status) {
    case task::CREATED:
      return TaskStatus::kCreated;
    case task::RUNNING:
      return TaskStatus::kRunning;
    case task::PAUSED:
    case task::PAUSING:
      return TaskStatus::kPaused;
    case task::STOPPED:
      return TaskStatus::kStopped;
    default:
      return MakeError(ErrorCode::kInternal, "the pod's daemon tells no state");
  }
}

template <class Request>
Request Addressed(const std::string& id, const std::string& exec_id) {
  Request request;
  request.set_id(id);
  request.set_exec_id(exec_id);
  return request;
}

template <class Request>
void SetStdio(Request& request, bool terminal, const StdioPaths& stdio) {
  request.set_terminal(terminal);
  request.set_stdin(stdio.in);
  request.set_stdout(stdio.out);
  request.set_stderr(stdio.err);
}

}  // namespace

Result<std::unique_ptr<TaskClient>> TaskClient::Connect(const std::string& socket,
                                                        const std::string& id) {
  std::unique_ptr<rpc::TtrpcClient> client =
      TRY_AS(rpc::TtrpcClient::Connect(socket), "the daemon of container \"{}\"", id);
  return std::unique_ptr<TaskClient>(new TaskClient(std::move(client), id));
}

Status TaskClient::Create(const std::string& bundle,
                          const std::vector<std::string>& overlay_options, bool terminal,
                          const StdioPaths& stdio) {
  task::CreateTaskRequest request;
  request.set_id(id_);
  request.set_bundle(bundle);
  auto* root = request.add_rootfs();
  root->set_type("overlay");
  root->set_source("overlay");
  for (const std::string& option : overlay_options) {
    root->add_options(option);
  }
  SetStdio(request, terminal, stdio);
  return CallPlain(*client_, "Create", request, std::nullopt);
}

Status TaskClient::Create(const std::string& bundle, bool terminal, const StdioPaths& stdio,
                          const StandInRef& stand_in) {
  task::CreateTaskRequest request;
  request.set_id(id_);
  request.set_bundle(bundle);
  SetStdio(request, terminal, stdio);
  return CallPlain(*client_, "Create", request, std::nullopt, MetadataOf(stand_in));
}

Result<TaskState> TaskClient::State() {
  task::StateRequest request;
  request.set_id(id_);
  const auto response = TRY(client_->Call<task::StateResponse>(kService, "State", request, kShort));
  return TaskState{TRY(ToStatus(response.status())), static_cast<int>(response.exit_status())};
}

Status TaskClient::Pause() {
  task::PauseRequest request;
  request.set_id(id_);
  return CallPlain(*client_, "Pause", request, kShort);
}

Status TaskClient::Resume() {
  task::ResumeRequest request;
  request.set_id(id_);
  return CallPlain(*client_, "Resume", request, kShort);
}

Status TaskClient::Update(const std::string& resources_json) {
  task::UpdateTaskRequest request;
  request.set_id(id_);
  request.mutable_resources()->set_type_url(kResourcesTypeUrl);
  request.mutable_resources()->set_value(resources_json);
  return CallPlain(*client_, "Update", request, kShort);
}

Result<TaskStats> TaskClient::Stats() {
  task::StatsRequest request;
  request.set_id(id_);
  const auto response = TRY(client_->Call<task::StatsResponse>(kService, "Stats", request, kShort));
  return TaskStats{response.stats().type_url(), response.stats().value()};
}

Status TaskClient::Exec(const std::string& exec_id, const std::string& process_json, bool terminal,
                        const StdioPaths& stdio, const std::optional<StandInRef>& stand_in) {
  auto request = Addressed<task::ExecProcessRequest>(id_, exec_id);
  SetStdio(request, terminal, stdio);
  request.mutable_spec()->set_type_url(kProcessTypeUrl);
  request.mutable_spec()->set_value(process_json);
  return CallPlain(*client_, "Exec", request, std::nullopt, MetadataOf(stand_in));
}

Status TaskClient::Start(const std::string& exec_id) {
  return CallPlain(*client_, "Start", Addressed<task::StartRequest>(id_, exec_id), std::nullopt);
}

Result<int> TaskClient::Wait(const std::string& exec_id, Timeout timeout) {
  const auto response = TRY(client_->Call<task::WaitResponse>(
      kService, "Wait", Addressed<task::WaitRequest>(id_, exec_id), timeout));
  return static_cast<int>(response.exit_status());
}

Status TaskClient::Kill(const std::string& exec_id, int signal, bool all) {
  auto request = Addressed<task::KillRequest>(id_, exec_id);
  request.set_signal(static_cast<uint32_t>(signal));
  request.set_all(all);
  return CallPlain(*client_, "Kill", request, kShort);
}

Status TaskClient::Resize(const std::string& exec_id, uint32_t width, uint32_t height) {
  auto request = Addressed<task::ResizePtyRequest>(id_, exec_id);
  request.set_width(width);
  request.set_height(height);
  return CallPlain(*client_, "ResizePty", request, kShort);
}

Status TaskClient::Delete(const std::string& exec_id) {
  return CallPlain(*client_, "Delete", Addressed<task::DeleteRequest>(id_, exec_id), kShort);
}

Status TaskClient::Shutdown() {
  task::ShutdownRequest request;
  request.set_id(id_);
  request.set_now(true);
  return CallPlain(*client_, "Shutdown", request, kShort);
}

Result<std::vector<ProcessEntry>> TaskClient::Pids() {
  task::PidsRequest request;
  request.set_id(id_);
  const auto response = TRY(client_->Call<task::PidsResponse>(kService, "Pids", request, kShort));
  std::vector<ProcessEntry> entries;
  for (const auto& process : response.processes()) {
    entries.push_back({process.info().value()});
  }
  return entries;
}

Result<std::unique_ptr<Daemon>> Daemon::Start(const Context& context, const Config& config,
                                              PodFolder& folder, const Options& options) {
  const PodPaths& paths = folder.paths();
  const UniqueFd socket = TRY(sys::ListenUnix(paths.socket(), 0600));
  UniqueFd log;
  if (options.detached) {
    log = TRY(sys::Open(paths.daemon_log(), O_WRONLY | O_CREAT | O_APPEND, 0600));
  }
  sys::Pipe lifeline;
  SpawnOptions spawn;
  const std::string program = TRY(ProgramFolder()) + "/containerd-shim-bulkhead-v2";
  spawn.argv = {program, "serve",    "--socket-fd", "3",         "--lock-fd",  "4",
                "--id",  paths.name, "--pod-dir",   paths.state, "--data-dir", paths.data};
  spawn.fds = {{socket.get(), 3}, {folder.lock_fd(), 4}, {log ? log.get() : STDERR_FILENO, 2}};
  if (!options.detached) {
    lifeline = TRY(sys::MakePipe());
    spawn.argv.insert(spawn.argv.end(), {"--lifeline-fd", "5"});
    spawn.fds.push_back({lifeline.read.get(), 5});
  }
  const auto add = [&](bool wanted, std::initializer_list<std::string> words) {
    if (wanted) {
      spawn.argv.insert(spawn.argv.end(), words);
    }
  };
  add(!config.source.empty(), {"--config", config.source});
  add(options.auto_remove, {"--auto-remove"});
  add(context.options().debug, {"--debug"});
  add(context.options().log_format == "json", {"--log-format", "json"});
  add(!options.accel.empty(), {"--accel", options.accel});
  add(!options.network.empty(), {"--network", options.network});
  for (const std::string& ports : options.publish) {
    add(true, {"--publish", ports});
  }
  spawn.death_signal = 0;
  spawn.new_session = true;
  Child child = TRY_AS(Child::Spawn(spawn), "start the pod's daemon");
  folder.CloseLock();
  return std::unique_ptr<Daemon>(new Daemon(std::move(child), std::move(lifeline.write)));
}

void Daemon::CutLifeline() {
  const std::lock_guard lock(mutex_);
  if (lifeline_) {
    lifeline_.Reset();
  } else {
    (void)child_.Signal(SIGTERM);
  }
}

std::optional<sys::Exit> Daemon::WaitEnd(std::chrono::milliseconds timeout) {
  const Result<bool> ended = sys::PollOne(child_.pidfd(), /*POLLIN*/ 1, timeout);
  if (!ended || !*ended) {
    return std::nullopt;
  }
  const std::lock_guard lock(mutex_);
  const auto exit = child_.Wait(std::chrono::milliseconds(0));
  return exit ? *exit : std::nullopt;
}

void Daemon::Kill() {
  const std::lock_guard lock(mutex_);
  (void)child_.Signal(SIGKILL);
}

void Daemon::Detach() {
  const std::lock_guard lock(mutex_);
  child_.Detach();
}

}  // namespace bulkhead::cli
