#include "agent/agent_service.h"

#include <grpcpp/server_builder.h>
#include <sys/mount.h>
#include <sys/utsname.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "agent/event_stream.h"
#include "agent/init.h"
#include "agent/loopback.h"
#include "agent/name_stream.h"
#include "agent/network_wire.h"
#include "agent/process_list.h"
#include "agent/shared_memory.h"
#include "agent/stdio_stream.h"
#include "agent/sysctls.h"
#include "rpc/status.h"

namespace bulkhead::agent {
namespace {

constexpr int kLookaheadBytes = 4 << 20;
constexpr int kMaxFrameBytes = 1 << 20;
constexpr char kCgroupRoot[] = "/sys/fs/cgroup";
constexpr auto kAnswerTime = std::chrono::milliseconds(30);

// Parked until the process ends or the host cancels. `self_` keeps it alive until gRPC is done;
// whoever removes the waiter finishes, so that it happens once.
class WaitReactor final : public grpc::ServerUnaryReactor {
 public:
  static WaitReactor* Begin(std::shared_ptr<Process> process, wire::ExitStatus* response) {
    const auto reactor = std::make_shared<WaitReactor>();
    reactor->self_ = reactor;
    reactor->process_ = std::move(process);
    reactor->waiter_ =
        reactor->process_->AddWaiter([raw = reactor.get(), response](const ProcessExit& exit) {
          response->set_exit_code(exit.exit.ShellCode());
          response->set_signal(exit.exit.signal);
          response->set_exited_at_ns(exit.at_ns);
          response->set_oom_killed(exit.oom_killed);
          raw->Finish(grpc::Status::OK);
        });
    if (reactor->cancelled_) {
      reactor->TryCancel();
    }
    return reactor.get();
  }

  void OnCancel() override {
    cancelled_ = true;
    TryCancel();
  }
  void OnDone() override { self_.reset(); }

 private:
  void TryCancel() {
    if (process_->RemoveWaiter(waiter_)) {
      Finish(grpc::Status::CANCELLED);
    }
  }

  std::shared_ptr<WaitReactor> self_;
  std::shared_ptr<Process> process_;
  std::atomic<Process::Waiter> waiter_ = 0;
  std::atomic<bool> cancelled_ = false;
};

Status MountShare(const wire::Share& share) {
  if (!share.mount_point().starts_with('/') || share.tag().empty()) {
    return MakeError(ErrorCode::kInvalidArgument, "share \"{}\" on \"{}\"", share.tag(),
                     share.mount_point());
  }
  TRY(sys::MkdirAll(share.mount_point()));
  const unsigned long flags = share.readonly() ? MS_RDONLY : 0;
  if (share.transport() == wire::Share::NINE_P) {
    return sys::Mount(share.tag(), share.mount_point(), "9p", flags,
                      "trans=virtio,version=9p2000.L,msize=524288,cache=mmap");
  }
  return sys::Mount(share.tag(), share.mount_point(), "virtiofs", flags);
}

void Describe(const ProcessInfo& info, wire::ListProcessesResponse::Entry& entry) {
  entry.set_pid(info.pid);
  entry.set_parent_pid(info.parent_pid);
  entry.set_container_pid(info.container_pid);
  entry.set_uid(info.uid);
  entry.set_state(std::string(1, info.state));
  entry.set_cpu_ms(info.cpu_ms);
  entry.set_rss_bytes(info.rss_bytes);
  entry.set_started_at_ns(info.started_at_ns);
  entry.set_command(info.command);
}

void Describe(const CgroupStats& stats, wire::ContainerStatsResponse& out) {
  out.set_pids_current(stats.pids_current);
  out.set_pids_max(stats.pids_max);
  out.mutable_cpu()->insert(stats.cpu.begin(), stats.cpu.end());
  out.set_memory_current(stats.memory_current);
  out.set_memory_max(stats.memory_max);
  out.set_memory_peak(stats.memory_peak);
  out.set_swap_current(stats.swap_current);
  out.set_swap_max(stats.swap_max);
  out.mutable_memory()->insert(stats.memory.begin(), stats.memory.end());
  out.mutable_memory_events()->insert(stats.memory_events.begin(), stats.memory_events.end());
  for (const CgroupStats::Io& io : stats.io) {
    auto& entry = *out.add_io();
    entry.set_major(io.major);
    entry.set_minor(io.minor);
    entry.set_rbytes(io.rbytes);
    entry.set_wbytes(io.wbytes);
    entry.set_rios(io.rios);
    entry.set_wios(io.wios);
  }
  for (const CgroupStats::HugeTlb& pages : stats.hugetlb) {
    auto& entry = *out.add_hugetlb();
    entry.set_page_size(pages.page_size);
    entry.set_current(pages.current);
    entry.set_max(pages.max);
    entry.set_failures(pages.failures);
  }
}

}  // namespace

AgentService::Unary* AgentService::Work(Context* context, std::function<Status()> work) {
  Unary* reactor = context->DefaultReactor();
  workers_.Run([reactor, work = std::move(work)] { reactor->Finish(rpc::ToGrpc(work())); });
  return reactor;
}

Result<std::shared_ptr<Process>> AgentService::FindProcess(const wire::ProcessRef& ref) const {
  return TRY(containers_.Find(ref.container_id()))->Find(ref.exec_id());
}

AgentService::Unary* AgentService::ConfigureSandbox(Context* context,
                                                    const wire::ConfigureSandboxRequest* request,
                                                    wire::ConfigureSandboxResponse* response) {
  return Work(context, [this, request, response]() -> Status {
    if (!request->hostname().empty()) {
      TRY(sys::SetHostname(request->hostname()));
    }
    if (request->wall_clock_ns() > 0) {
      TRY(SetClock(request->wall_clock_ns()));
    }
    if (!request->entropy().empty()) {
      TRY(AddEntropy(request->entropy()));
    }
    for (const wire::Share& share : request->shares()) {
      TRY_AS(MountShare(share), "share {}", share.tag());
    }
    utsname name{};
    ::uname(&name);
    response->set_agent_version(options_.version);
    response->set_kernel_release(name.release);
    response->set_boot_to_agent_us(options_.started_us);
    response->set_boot_to_ready_us(ready_us_);
    return {};
  });
}

AgentService::Unary* AgentService::CreateContainer(Context* context,
                                                   const wire::CreateContainerRequest* request,
                                                   wire::CreateProcessResponse* response) {
  return Work(context, [this, request, response]() -> Status {
    ContainerRequest made;
    made.id = request->container_id();
    made.spec = TRY(oci::ParseSpec(request->spec()));
    made.with_stdin = request->stdin();
    made.bundle = request->bundle();
    for (const wire::Drive& drive : request->drives()) {
      made.drives.push_back({drive.serial(),
                             drive.filesystem(),
                             {drive.options().begin(), drive.options().end()},
                             drive.mount_point()});
    }
    if (request->has_upper()) {
      const wire::WritableLayer& upper = request->upper();
      made.upper = UpperRequest{
          upper.drive(), upper.memory_bytes(), {upper.folders().begin(), upper.folders().end()}};
    }
    const auto init = TRY(containers_.Create(std::move(made)));
    response->set_pid(init->pid());
    return {};
  });
}

AgentService::Unary* AgentService::ExecProcess(Context* context,
                                               const wire::ExecProcessRequest* request,
                                               wire::CreateProcessResponse* response) {
  return Work(context, [this, request, response]() -> Status {
    const auto container = TRY(containers_.Find(request->container_id()));
    oci::Process process = TRY(oci::ParseProcess(request->process()));
    const auto made =
        TRY(container->Exec(request->exec_id(), std::move(process), request->stdin()));
    response->set_pid(made->pid());
    return {};
  });
}

AgentService::Unary* AgentService::StartProcess(Context* context, const wire::ProcessRef* request,
                                                wire::Empty* /*response*/) {
  return Work(context, [this, request]() -> Status {
    return TRY(containers_.Find(request->container_id()))->Start(request->exec_id());
  });
}

AgentService::Unary* AgentService::WaitProcess(Context* context, const wire::ProcessRef* request,
                                               wire::ExitStatus* response) {
  auto process = FindProcess(*request);
  if (!process) {
    Unary* reactor = context->DefaultReactor();
    reactor->Finish(rpc::ToGrpc(process.error()));
    return reactor;
  }
  return WaitReactor::Begin(std::move(*process), response);
}

AgentService::Unary* AgentService::SignalProcess(Context* context,
                                                 const wire::SignalProcessRequest* request,
                                                 wire::Empty* /*response*/) {
  return Work(context, [this, request]() -> Status {
    const wire::ProcessRef& ref = request->process();
    if (request->all() && ref.exec_id().empty()) {
      return TRY(containers_.Find(ref.container_id()))->SignalAll(request->signal());
    }
    return TRY(FindProcess(ref))->Signal(request->signal());
  });
}

AgentService::Unary* AgentService::ResizeTerminal(Context* context,
                                                  const wire::ResizeTerminalRequest* request,
                                                  wire::Empty* /*response*/) {
  return Work(context, [this, request]() -> Status {
    const auto stdio = TRY(FindProcess(request->process()))->stdio();
    return stdio ? stdio->Resize(request->rows(), request->columns()) : Status();
  });
}

AgentService::Unary* AgentService::DeleteProcess(Context* context, const wire::ProcessRef* request,
                                                 wire::Empty* /*response*/) {
  return Work(context, [this, request]() -> Status {
    if (request->exec_id().empty()) {
      return containers_.Delete(request->container_id());
    }
    return TRY(containers_.Find(request->container_id()))->DeleteExec(request->exec_id());
  });
}

AgentService::Unary* AgentService::PauseContainer(Context* context,
                                                  const wire::ContainerRef* request,
                                                  wire::Empty* /*response*/) {
  return Work(context, [this, request]() -> Status {
    return TRY(containers_.Find(request->container_id()))->Pause();
  });
}

AgentService::Unary* AgentService::ResumeContainer(Context* context,
                                                   const wire::ContainerRef* request,
                                                   wire::Empty* /*response*/) {
  return Work(context, [this, request]() -> Status {
    return TRY(containers_.Find(request->container_id()))->Resume();
  });
}

AgentService::Unary* AgentService::UpdateContainer(Context* context,
                                                   const wire::UpdateContainerRequest* request,
                                                   wire::Empty* /*response*/) {
  return Work(context, [this, request]() -> Status {
    const auto container = TRY(containers_.Find(request->container_id()));
    return container->Update(TRY(oci::ParseResources(request->resources())));
  });
}

AgentService::Unary* AgentService::ContainerStats(Context* context,
                                                  const wire::ContainerRef* request,
                                                  wire::ContainerStatsResponse* response) {
  return Work(context, [this, request, response]() -> Status {
    Describe(TRY(TRY(containers_.Find(request->container_id()))->Stats()), *response);
    return {};
  });
}

AgentService::Unary* AgentService::SetNetwork(Context* context, const wire::Network* request,
                                              wire::SetNetworkResponse* response) {
  return Work(context, [this, request, response]() -> Status {
    for (std::string& name : TRY(network_.Set(FromWire(*request)))) {
      response->add_not_set(std::move(name));
    }
    return {};
  });
}

AgentService::Unary* AgentService::SetSysctls(Context* context,
                                              const wire::SetSysctlsRequest* request,
                                              wire::Empty* /*response*/) {
  return Work(context, [request] {
    return agent::SetSysctls({request->sysctls().begin(), request->sysctls().end()});
  });
}

AgentService::Unary* AgentService::ReleaseMemory(Context* context,
                                                 const wire::ReleaseMemoryRequest* request,
                                                 wire::Empty* /*response*/) {
  return Work(context, [this, request] { return shared_memory_.Release(request->name()); });
}

AgentService::Unary* AgentService::ShareMemory(Context* context,
                                               const wire::ShareMemoryRequest* request,
                                               wire::Empty* /*response*/) {
  return Work(context, [this, request] {
    return shared_memory_.Share(request->name(), {request->size_bytes(), request->huge_page_bytes(),
                                                  request->reserved_bytes(), request->mode(),
                                                  request->uid(), request->gid()});
  });
}

grpc::ServerWriteReactor<wire::Event>* AgentService::Events(Context* /*context*/,
                                                            const wire::Empty* /*request*/) {
  return NewEventStream(events_);
}

AgentService::Unary* AgentService::ListProcesses(Context* context, const wire::ProcessRef* request,
                                                 wire::ListProcessesResponse* response) {
  return Work(context, [this, request, response]() -> Status {
    const auto container = TRY(containers_.Find(request->container_id()));
    for (const pid_t pid : TRY(container->Pids())) {
      if (const auto info = ReadProcessInfo(pid)) {  // else it has ended meanwhile
        auto& entry = *response->add_processes();
        Describe(*info, entry);
        entry.set_exec_id(container->ExecIdOf(pid));
      }
    }
    return {};
  });
}

grpc::ServerBidiReactor<wire::StdioInput, wire::StdioOutput>* AgentService::Stdio(
    Context* /*context*/) {
  return NewStdioStream(
      [this](const wire::StdioInput& first) -> Result<std::shared_ptr<agent::Stdio>> {
        if (first.connect() != 0) {
          return ConnectLoopback(io_, first.connect());
        }
        auto stdio = TRY(FindProcess(first.open()))->stdio();
        if (!stdio) {
          return MakeError(ErrorCode::kFailedPrecondition, "the process is still being created");
        }
        return stdio;
      });
}

Result<std::shared_ptr<NameServer>> AgentService::Names() {
  const std::lock_guard lock(names_mutex_);
  if (!names_) {
    auto server = TRY(NameServer::Create(io_));
    name_redirect_ = TRY(NameRedirect::Open(kCgroupRoot, server->socket()));
    names_ = std::move(server);
  }
  return names_;
}

grpc::ServerBidiReactor<wire::NameAnswer, wire::NameQuery>* AgentService::ResolveNames(
    Context* /*context*/) {
  return NewNameStream(Names());
}

AgentService::Unary* AgentService::Shutdown(Context* context, const wire::Empty* /*request*/,
                                            wire::Empty* /*response*/) {
  Unary* reactor = context->DefaultReactor();
  log_.Info("shutting down");
  workers_.Run([this, reactor] {
    containers_.KillAll();
    reactor->Finish(grpc::Status::OK);
    std::this_thread::sleep_for(kAnswerTime);  // for the answer to leave
    options_.power_off();
  });
  return reactor;
}

std::unique_ptr<grpc::Server> StartServer(AgentService& service) {
  grpc::ServerBuilder builder;
  builder.RegisterService(&service);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder.AddChannelArgument(GRPC_ARG_ENABLE_CHANNELZ, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kLookaheadBytes);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, kMaxFrameBytes);
  // The host's keepalive must never be taken for abuse.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.SetMaxReceiveMessageSize(16 << 20);
  return builder.BuildAndStart();
}

}  // namespace bulkhead::agent
