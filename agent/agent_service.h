// agent.proto, served: turns calls into what Containers does. Calls that block run on workers; gRPC
// itself has one thread.
#pragma once

#include <agent.grpc.pb.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "agent/container.h"
#include "agent/event_feed.h"
#include "agent/huge_pages.h"
#include "agent/io_loop.h"
#include "agent/name_redirect.h"
#include "agent/name_server.h"
#include "agent/network.h"
#include "agent/shared_memory.h"
#include "agent/worker_pool.h"
#include "base/log.h"

namespace bulkhead::agent {

namespace wire = ::bulkhead::agent::v1;

struct ServiceOptions {
  std::string version;
  uint64_t started_us = 0;          // CLOCK_MONOTONIC when main began
  std::function<void()> power_off;  // Shutdown's last act
};

class AgentService final : public wire::Agent::CallbackService {
 public:
  AgentService(Containers& containers, EventFeed& events, HugePages& huge_pages, IoLoop& io,
               ServiceOptions options, Logger& log)
      : containers_(containers),
        events_(events),
        shared_memory_(huge_pages),
        io_(io),
        options_(std::move(options)),
        log_(log) {}

  // It is about to take connections.
  void MarkReady(uint64_t monotonic_us) { ready_us_ = monotonic_us; }

  using Context = grpc::CallbackServerContext;
  using Unary = grpc::ServerUnaryReactor;

  Unary* ConfigureSandbox(Context* context, const wire::ConfigureSandboxRequest* request,
                          wire::ConfigureSandboxResponse* response) override;
  Unary* CreateContainer(Context* context, const wire::CreateContainerRequest* request,
                         wire::CreateProcessResponse* response) override;
  Unary* ExecProcess(Context* context, const wire::ExecProcessRequest* request,
                     wire::CreateProcessResponse* response) override;
  Unary* StartProcess(Context* context, const wire::ProcessRef* request,
                      wire::Empty* response) override;
  Unary* WaitProcess(Context* context, const wire::ProcessRef* request,
                     wire::ExitStatus* response) override;
  Unary* SignalProcess(Context* context, const wire::SignalProcessRequest* request,
                       wire::Empty* response) override;
  Unary* ResizeTerminal(Context* context, const wire::ResizeTerminalRequest* request,
                        wire::Empty* response) override;
  Unary* DeleteProcess(Context* context, const wire::ProcessRef* request,
                       wire::Empty* response) override;
  Unary* PauseContainer(Context* context, const wire::ContainerRef* request,
                        wire::Empty* response) override;
  Unary* ResumeContainer(Context* context, const wire::ContainerRef* request,
                         wire::Empty* response) override;
  Unary* UpdateContainer(Context* context, const wire::UpdateContainerRequest* request,
                         wire::Empty* response) override;
  Unary* ContainerStats(Context* context, const wire::ContainerRef* request,
                        wire::ContainerStatsResponse* response) override;
  Unary* SetNetwork(Context* context, const wire::Network* request,
                    wire::SetNetworkResponse* response) override;
  Unary* SetSysctls(Context* context, const wire::SetSysctlsRequest* request,
                    wire::Empty* response) override;
  Unary* ReleaseMemory(Context* context, const wire::ReleaseMemoryRequest* request,
                       wire::Empty* response) override;
  Unary* ShareMemory(Context* context, const wire::ShareMemoryRequest* request,
                     wire::Empty* response) override;
  grpc::ServerWriteReactor<wire::Event>* Events(Context* context,
                                                const wire::Empty* request) override;
  Unary* ListProcesses(Context* context, const wire::ProcessRef* request,
                       wire::ListProcessesResponse* response) override;
  grpc::ServerBidiReactor<wire::StdioInput, wire::StdioOutput>* Stdio(Context* context) override;
  grpc::ServerBidiReactor<wire::NameAnswer, wire::NameQuery>* ResolveNames(
      Context* context) override;
  Unary* Shutdown(Context* context, const wire::Empty* request, wire::Empty* response) override;

 private:
  Result<std::shared_ptr<Process>> FindProcess(const wire::ProcessRef& ref) const;
  // Made when the host first asks for it.
  Result<std::shared_ptr<NameServer>> Names();
  // Runs `work` on a worker and finishes the call with what it returns.
  Unary* Work(Context* context, std::function<Status()> work);

  Containers& containers_;
  EventFeed& events_;
  SharedMemory shared_memory_;
  IoLoop& io_;
  const ServiceOptions options_;
  Logger& log_;
  std::atomic<uint64_t> ready_us_ = 0;
  PodNetwork network_;
  std::mutex names_mutex_;
  std::shared_ptr<NameServer> names_;
  std::optional<NameRedirect> name_redirect_;
  WorkerPool workers_;
};

// A server with the service and no port: connections come by rpc::ServeFd.
std::unique_ptr<grpc::Server> StartServer(AgentService& service);

}  // namespace bulkhead::agent
