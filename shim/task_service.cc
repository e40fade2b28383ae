#include "shim/task_service.h"

#include <unistd.h>

#include <string>
#include <utility>

#include "base/log.h"
#include "proto_gen/containerd/task.pb.h"

namespace bulkhead::shim {
namespace {

namespace task = containerd::task::v2;
using google::protobuf::Empty;
using rpc::CallContext;

constexpr int64_t kNanoseconds = 1'000'000'000;

template <typename Request>
ProcessName NameOf(const Request& request) {
  return {request.id(), request.exec_id()};
}

template <typename Response>
void FillExit(Response& response, const ProcessExit& exit) {
  response.set_exit_status(static_cast<uint32_t>(exit.code));
  response.mutable_exited_at()->set_seconds(exit.exited_at_ns / kNanoseconds);
  response.mutable_exited_at()->set_nanos(static_cast<int32_t>(exit.exited_at_ns % kNanoseconds));
}

std::string ToJson(const pb::ListProcessesResponse::Entry& entry) {
  return fmt::format(
      R"({{"pid":{},"parent_pid":{},"container_pid":{},"uid":{},"state":{},"cpu_ms":{},)"
      R"("rss_bytes":{},"started_at_ns":{},"command":{},"exec_id":{}}})",
      entry.pid(), entry.parent_pid(), entry.container_pid(), entry.uid(), JsonQuote(entry.state()),
      entry.cpu_ms(), entry.rss_bytes(), entry.started_at_ns(), JsonQuote(entry.command()),
      JsonQuote(entry.exec_id()));
}

Result<task::CreateTaskResponse> Create(Pod& pod, const task::CreateTaskRequest& request) {
  CreateOptions options;
  options.id = request.id();
  options.bundle = request.bundle();
  for (const auto& mount : request.rootfs()) {
    options.rootfs.push_back(
        {mount.type(), mount.source(), {mount.options().begin(), mount.options().end()}});
  }
  options.stdio = {request.stdin(), request.stdout(), request.stderr()};
  task::CreateTaskResponse response;
  response.set_pid(static_cast<uint32_t>(TRY(pod.Create(options))));
  return response;
}

Result<task::StateResponse> State(Pod& pod, const task::StateRequest& request) {
  const auto process = TRY(pod.Find(NameOf(request)));
  task::StateResponse response;
  response.set_id(request.id());
  response.set_exec_id(request.exec_id());
  response.set_bundle(TRY(pod.Bundle(request.id())));
  response.set_pid(static_cast<uint32_t>(process->pid()));
  response.set_stdin(process->paths().in);
  response.set_stdout(process->paths().out);
  response.set_stderr(process->paths().err);
  response.set_terminal(process->terminal());
  switch (process->state()) {
    case ProcessState::kCreated:
      response.set_status(task::CREATED);
      break;
    case ProcessState::kRunning:
      response.set_status(task::RUNNING);
      break;
    case ProcessState::kStopped:
      response.set_status(task::STOPPED);
      break;
  }
  if (const auto exit = process->exit(); exit && *exit) {
    FillExit(response, **exit);
  }
  return response;
}

Result<task::PidsResponse> Pids(Pod& pod, const task::PidsRequest& request) {
  task::PidsResponse response;
  for (const auto& entry : TRY(pod.Processes(request.id()))) {
    task::ProcessInfo& info = *response.add_processes();
    info.set_pid(static_cast<uint32_t>(entry.pid()));
    info.mutable_info()->set_type_url(kProcessEntryType);
    info.mutable_info()->set_value(ToJson(entry));
  }
  return response;
}

void RegisterProcessCalls(rpc::TtrpcServer& server, Pod& pod) {
  server.RegisterMethod<task::StartRequest, task::StartResponse>(
      kTaskService, "Start",
      [&pod](const auto& request, const CallContext&) -> Result<task::StartResponse> {
        TRY(pod.Start(NameOf(request)));
        task::StartResponse response;
        response.set_pid(static_cast<uint32_t>(TRY(pod.Find(NameOf(request)))->pid()));
        return response;
      });
  server.RegisterMethod<task::WaitRequest, task::WaitResponse>(
      kTaskService, "Wait",
      [&pod](const auto& request, const CallContext& context) -> Result<task::WaitResponse> {
        task::WaitResponse response;
        FillExit(response, TRY(TRY(pod.Find(NameOf(request)))->Wait(context.stop_token())));
        return response;
      });
  server.RegisterMethod<task::DeleteRequest, task::DeleteResponse>(
      kTaskService, "Delete",
      [&pod](const auto& request, const CallContext&) -> Result<task::DeleteResponse> {
        task::DeleteResponse response;
        FillExit(response, TRY(pod.Delete(NameOf(request))));
        return response;
      });
  server.RegisterMethod<task::KillRequest, Empty>(
      kTaskService, "Kill", [&pod](const auto& request, const CallContext&) -> Result<Empty> {
        TRY(TRY(pod.Find(NameOf(request)))
                ->Signal(static_cast<int>(request.signal()), request.all()));
        return Empty();
      });
  server.RegisterMethod<task::ResizePtyRequest, Empty>(
      kTaskService, "ResizePty", [&pod](const auto& request, const CallContext&) -> Result<Empty> {
        TRY(TRY(pod.Find(NameOf(request)))->Resize(request.height(), request.width()));
        return Empty();
      });
  server.RegisterMethod<task::CloseIORequest, Empty>(
      kTaskService, "CloseIO", [&pod](const auto& request, const CallContext&) -> Result<Empty> {
        TRY(pod.Find(NameOf(request)))->CloseStdin();
        return Empty();
      });
}

}  // namespace

void RegisterTaskService(rpc::TtrpcServer& server, Pod& pod, std::function<void()> on_shutdown) {
  server.RegisterMethod<task::CreateTaskRequest, task::CreateTaskResponse>(
      kTaskService, "Create",
      [&pod](const auto& request, const CallContext&) { return Create(pod, request); });
  server.RegisterMethod<task::ExecProcessRequest, Empty>(
      kTaskService, "Exec", [&pod](const auto& request, const CallContext&) -> Result<Empty> {
        TRY(pod.Exec(NameOf(request), request.spec().value(),
                     {request.stdin(), request.stdout(), request.stderr()}));
        return Empty();
      });
  server.RegisterMethod<task::StateRequest, task::StateResponse>(
      kTaskService, "State",
      [&pod](const auto& request, const CallContext&) { return State(pod, request); });
  server.RegisterMethod<task::PidsRequest, task::PidsResponse>(
      kTaskService, "Pids",
      [&pod](const auto& request, const CallContext&) { return Pids(pod, request); });
  server.RegisterMethod<task::ConnectRequest, task::ConnectResponse>(
      kTaskService, "Connect",
      [&pod](const auto& request, const CallContext&) -> Result<task::ConnectResponse> {
        task::ConnectResponse response;
        response.set_shim_pid(static_cast<uint32_t>(::getpid()));
        if (const auto process = pod.Find({request.id(), ""})) {
          response.set_task_pid(static_cast<uint32_t>((*process)->pid()));
        }
        return response;
      });
  server.RegisterMethod<task::ShutdownRequest, Empty>(
      kTaskService, "Shutdown",
      [on_shutdown = std::move(on_shutdown)](const auto&, const CallContext&) -> Result<Empty> {
        on_shutdown();
        return Empty();
      });
  RegisterProcessCalls(server, pod);
}

}  // namespace bulkhead::shim
