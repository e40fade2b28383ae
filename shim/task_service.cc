#include "shim/task_service.h"

#include <unistd.h>

#include <chrono>
#include <sstream>
#include <string>
#include <thread>
#include <utility>

#include "base/log.h"
#include "proto_gen/containerd/runc.pb.h"
#include "proto_gen/containerd/task.pb.h"
#include "shim/exit_fields.h"
#include "shim/task_metrics.h"

namespace bulkhead::shim {
namespace {

namespace task = containerd::task::v2;
using google::protobuf::Empty;
using rpc::CallContext;

constexpr char kProcessDetailsType[] = "containerd.runc.v1.ProcessDetails";
constexpr std::chrono::milliseconds kOthersAnswer(100);

template <typename Request>
ProcessName NameOf(const Request& request) {
  return {request.id(), request.exec_id()};
}

std::string ToJson(const pb::ListProcessesResponse::Entry& entry) {
  return fmt::format(
      R"({{"pid":{},"parent_pid":{},"container_pid":{},"uid":{},"state":{},"cpu_ms":{},)"
      R"("rss_bytes":{},"started_at_ns":{},"command":{},"exec_id":{}}})",
      entry.pid(), entry.parent_pid(), entry.container_pid(), entry.uid(), JsonQuote(entry.state()),
      entry.cpu_ms(), entry.rss_bytes(), entry.started_at_ns(), JsonQuote(entry.command()),
      JsonQuote(entry.exec_id()));
}

task::Status ToStatus(ProcessState state, bool paused) {
  switch (state) {
    case ProcessState::kCreated:
      return task::CREATED;
    case ProcessState::kRunning:
      return paused ? task::PAUSED : task::RUNNING;
    case ProcessState::kStopped:
      return task::STOPPED;
  }
  return task::UNKNOWN;
}

// The calls, each with its request in and its response or error out. Short-lived names of the one
// Pod behind them.
class TaskCalls {
 public:
  TaskCalls(Pod& pod, TaskServiceOptions options) : pod_(pod), options_(std::move(options)) {}

  Result<task::CreateTaskResponse> Create(const task::CreateTaskRequest& request,
                                          const CallContext& context) {
    if (!request.checkpoint().empty()) {
      return MakeError(ErrorCode::kUnimplemented, "restoring from a checkpoint is not implemented");
    }
    CreateOptions options;
    options.id = request.id();
    options.bundle = request.bundle();
    for (const auto& mount : request.rootfs()) {
      options.rootfs.push_back(
          {mount.type(), mount.source(), {mount.options().begin(), mount.options().end()}});
    }
    options.stdio = {request.stdin(), request.stdout(), request.stderr()};
    options.stand_in = TRY(StandInOf(context));
    options.mount_namespace = TRY(MountsOf(context));
    task::CreateTaskResponse response;
    response.set_pid(static_cast<uint32_t>(TRY(pod_.Create(options))));
    return response;
  }

  Result<Empty> Exec(const task::ExecProcessRequest& request, const CallContext& context) {
    TRY(pod_.Exec(NameOf(request), request.spec().value(),
                  {request.stdin(), request.stdout(), request.stderr()}, TRY(StandInOf(context))));
    return Empty();
  }

  Result<task::StartResponse> Start(const task::StartRequest& request) {
    const auto process = TRY(pod_.Find(NameOf(request)));
    TRY(pod_.Start(NameOf(request)));
    task::StartResponse response;
    response.set_pid(static_cast<uint32_t>(process->info().pid));
    return response;
  }

  Result<task::StateResponse> State(const task::StateRequest& request) {
    const auto process = TRY(pod_.Find(NameOf(request)));
    const auto container = TRY(pod_.StateOf(request.id()));
    const ProcessInfo& info = process->info();
    task::StateResponse response;
    response.set_id(request.id());
    response.set_exec_id(request.exec_id());
    response.set_bundle(container.bundle);
    response.set_pid(static_cast<uint32_t>(info.pid));
    response.set_stdin(info.stdio.in);
    response.set_stdout(info.stdio.out);
    response.set_stderr(info.stdio.err);
    response.set_terminal(info.terminal);
    response.set_status(ToStatus(process->state(), container.paused));
    if (const auto exit = process->exit()) {
      FillExit(response, ExitOr137(*exit));
    }
    return response;
  }

  Result<task::WaitResponse> Wait(const task::WaitRequest& request, const CallContext& context) {
    const auto process = TRY(pod_.Find(NameOf(request)));
    const auto exit = process->Wait(context.stop_token());
    if (!exit && (!options_.for_engine || context.Cancelled())) {
      return tl::unexpected(exit.error());
    }
    task::WaitResponse response;
    FillExit(response, ExitOr137(exit));
    return response;
  }

  Result<task::DeleteResponse> Delete(const task::DeleteRequest& request) {
    auto response = DeleteNow(request);
    if (!response && response.error().code() == ErrorCode::kNotFound) {
      // containerd ends the connection when it hears this: not before the call that did delete it
      // has its answer.
      std::this_thread::sleep_for(kOthersAnswer);
    }
    return response;
  }

  Result<task::DeleteResponse> DeleteNow(const task::DeleteRequest& request) {
    const auto process = TRY(pod_.Find(NameOf(request)));
    const auto exit = pod_.Delete(NameOf(request));
    if (!exit && (!options_.for_engine || exit.error().code() != ErrorCode::kUnavailable)) {
      return tl::unexpected(exit.error());
    }
    task::DeleteResponse response;
    response.set_pid(static_cast<uint32_t>(process->info().pid));
    FillExit(response, ExitOr137(exit));
    return response;
  }

  Result<Empty> Kill(const task::KillRequest& request) {
    const auto process = TRY(pod_.Find(NameOf(request)));
    TRY(process->Signal(static_cast<int>(request.signal()), request.all()));
    return Empty();
  }

  Result<Empty> ResizePty(const task::ResizePtyRequest& request) {
    TRY(TRY(pod_.Find(NameOf(request)))->Resize(request.height(), request.width()));
    return Empty();
  }

  Result<Empty> CloseIo(const task::CloseIORequest& request) {
    const auto process = TRY(pod_.Find(NameOf(request)));
    if (request.stdin()) {
      process->CloseStdin();
    }
    return Empty();
  }

  Result<task::PidsResponse> Pids(const task::PidsRequest& request) {
    task::PidsResponse response;
    for (const auto& entry : TRY(pod_.Processes(request.id()))) {
      task::ProcessInfo& info = *response.add_processes();
      info.set_pid(static_cast<uint32_t>(entry.pid()));
      if (!options_.for_engine || options_.process_entries) {
        info.mutable_info()->set_type_url(kProcessEntryType);
        info.mutable_info()->set_value(ToJson(entry));
      } else if (!entry.exec_id().empty()) {
        containerd::runc::v1::ProcessDetails details;
        details.set_exec_id(entry.exec_id());
        info.mutable_info()->set_type_url(kProcessDetailsType);
        info.mutable_info()->set_value(details.SerializeAsString());
      }
    }
    return response;
  }

  Result<Empty> Pause(const task::PauseRequest& request) {
    TRY(pod_.Pause(request.id()));
    return Empty();
  }

  Result<Empty> Resume(const task::ResumeRequest& request) {
    TRY(pod_.Resume(request.id()));
    return Empty();
  }

  Result<Empty> Update(const task::UpdateTaskRequest& request) {
    TRY(pod_.Update(request.id(), request.resources().value()));
    return Empty();
  }

  Result<task::StatsResponse> Stats(const task::StatsRequest& request) {
    task::StatsResponse response;
    const Pod::Counters counters = TRY(pod_.Stats(request.id()));
    *response.mutable_stats() = TaskMetrics(counters.container, counters.network, HostCgroupMode());
    return response;
  }

  Result<Empty> Checkpoint(const task::CheckpointTaskRequest& request) {
    TRY(pod_.Find({request.id(), ""}));
    return MakeError(ErrorCode::kUnimplemented,
                     "checkpoints of a container in a virtual machine are not implemented");
  }

  Result<task::ConnectResponse> Connect(const task::ConnectRequest& request) {
    task::ConnectResponse response;
    response.set_shim_pid(static_cast<uint32_t>(::getpid()));
    response.set_version(BULKHEAD_VERSION);
    if (const auto process = pod_.Find({request.id(), ""})) {
      response.set_task_pid(static_cast<uint32_t>((*process)->info().pid));
    }
    return response;
  }

  // containerd asks once for every container of a pod.
  Result<Empty> Shutdown(const task::ShutdownRequest& /*request*/) {
    if (!options_.for_engine || !pod_.HasContainers()) {
      options_.on_shutdown();
    }
    return Empty();
  }

 private:
  // The pid and the token of a stand-in's metadata; nullopt: it has none.
  Result<std::optional<std::pair<pid_t, std::string>>> MetadataOf(
      const CallContext& context) const {
    for (const auto& [name, value] : context.metadata()) {
      if (name != kStandInMetadata || options_.fds == nullptr) {
        continue;
      }
      std::istringstream words(value);
      std::pair<pid_t, std::string> named;
      if (!(words >> named.first >> named.second)) {
        return MakeError(ErrorCode::kInvalidArgument, "{}: \"{}\"", kStandInMetadata, value);
      }
      return named;
    }
    return std::nullopt;
  }

  Result<std::shared_ptr<StandIn::Link>> StandInOf(const CallContext& context) const {
    const auto named = TRY(MetadataOf(context));
    if (!named) {
      return nullptr;
    }
    auto link = std::make_shared<StandIn::Link>();
    link->pid = named->first;
    link->pidfd = TRY(options_.fds->Take(named->second, "pidfd"));
    link->channel = TRY(options_.fds->Take(named->second, "channel"));
    return link;
  }

  Result<std::shared_ptr<UniqueFd>> MountsOf(const CallContext& context) const {
    const auto named = TRY(MetadataOf(context));
    return named ? std::make_shared<UniqueFd>(TRY(options_.fds->Take(named->second, "mounts")))
                 : nullptr;
  }

  Pod& pod_;
  const TaskServiceOptions options_;
};

template <typename Request, typename Response>
void Register(rpc::TtrpcServer& server, const std::shared_ptr<TaskCalls>& calls, const char* method,
              Result<Response> (TaskCalls::*call)(const Request&, const CallContext&)) {
  for (const char* service : {kTaskServiceV2, kTaskServiceV3}) {
    server.RegisterMethod<Request, Response>(
        service, method, [calls, call](const Request& request, const CallContext& context) {
          return ((*calls).*call)(request, context);
        });
  }
}

template <typename Request, typename Response>
void Register(rpc::TtrpcServer& server, const std::shared_ptr<TaskCalls>& calls, const char* method,
              Result<Response> (TaskCalls::*call)(const Request&)) {
  for (const char* service : {kTaskServiceV2, kTaskServiceV3}) {
    server.RegisterMethod<Request, Response>(
        service, method, [calls, call](const Request& request, const CallContext&) {
          return ((*calls).*call)(request);
        });
  }
}

}  // namespace

void RegisterTaskService(rpc::TtrpcServer& server, Pod& pod, const TaskServiceOptions& options) {
  const auto calls = std::make_shared<TaskCalls>(pod, options);
  Register(server, calls, "Create", &TaskCalls::Create);
  Register(server, calls, "Exec", &TaskCalls::Exec);
  Register(server, calls, "Start", &TaskCalls::Start);
  Register(server, calls, "State", &TaskCalls::State);
  Register(server, calls, "Delete", &TaskCalls::Delete);
  Register(server, calls, "Kill", &TaskCalls::Kill);
  Register(server, calls, "ResizePty", &TaskCalls::ResizePty);
  Register(server, calls, "CloseIO", &TaskCalls::CloseIo);
  Register(server, calls, "Pids", &TaskCalls::Pids);
  Register(server, calls, "Pause", &TaskCalls::Pause);
  Register(server, calls, "Resume", &TaskCalls::Resume);
  Register(server, calls, "Update", &TaskCalls::Update);
  Register(server, calls, "Stats", &TaskCalls::Stats);
  Register(server, calls, "Checkpoint", &TaskCalls::Checkpoint);
  Register(server, calls, "Connect", &TaskCalls::Connect);
  Register(server, calls, "Shutdown", &TaskCalls::Shutdown);
  Register(server, calls, "Wait", &TaskCalls::Wait);
}

}  // namespace bulkhead::shim
