#include "shim/agent_client.h"

#include <algorithm>
#include <array>
#include <optional>

#include "rpc/channel.h"
#include "rpc/status.h"

namespace bulkhead::shim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Generous: a starved guest under emulation is slow, not dead; QEMU's own end is noticed at once.
constexpr milliseconds kCallTimeout = seconds(120);
constexpr int kMaxProcesses = 32768;
constexpr size_t kMaxStats = 4096;
constexpr size_t kMaxStatsName = 256;

template <typename Request, typename Response>
using Method = grpc::Status (pb::Agent::Stub::*)(grpc::ClientContext*, const Request&, Response*);

template <typename Request, typename Response>
Result<Response> Call(pb::Agent::Stub& stub, Method<Request, Response> method,
                      const Request& request, std::optional<milliseconds> timeout) {
  grpc::ClientContext context;
  if (timeout) {
    context.set_deadline(std::chrono::system_clock::now() + *timeout);
  }
  Response response;
  const grpc::Status status = (stub.*method)(&context, request, &response);
  if (!status.ok()) {
    return tl::unexpected(rpc::FromGrpc(status));
  }
  return response;
}

pb::ContainerRef MakeRef(const std::string& id) {
  pb::ContainerRef ref;
  ref.set_container_id(id);
  return ref;
}

}  // namespace

Status CheckStats(const pb::ContainerStatsResponse& stats) {
  const std::array<size_t, 5> sizes{
      stats.cpu().size(), stats.memory().size(), stats.memory_events().size(),
      static_cast<size_t>(stats.io_size()), static_cast<size_t>(stats.hugetlb_size())};
  const size_t most = *std::max_element(sizes.begin(), sizes.end());
  if (most > kMaxStats) {
    return MakeError(ErrorCode::kResourceExhausted, "the guest reports statistics of {} entries",
                     most);
  }
  size_t longest = 0;
  for (const auto* counters : {&stats.cpu(), &stats.memory(), &stats.memory_events()}) {
    for (const auto& [name, count] : *counters) {
      longest = std::max(longest, name.size());
    }
  }
  for (const auto& pages : stats.hugetlb()) {
    longest = std::max(longest, pages.page_size().size());
  }
  if (longest > kMaxStatsName) {
    return MakeError(ErrorCode::kResourceExhausted,
                     "the guest reports statistics with a name of {} bytes", longest);
  }
  return {};
}

void FillRef(pb::ProcessRef& ref, const ProcessName& name) {
  ref.set_container_id(name.container_id);
  ref.set_exec_id(name.exec_id);
}

AgentClient::AgentClient(UniqueFd socket)
    : stub_(pb::Agent::NewStub(rpc::ChannelFromFd(std::move(socket)))) {}

Result<pb::ConfigureSandboxResponse> AgentClient::ConfigureSandbox(
    const pb::ConfigureSandboxRequest& request, milliseconds timeout) {
  return Call(*stub_, &pb::Agent::Stub::ConfigureSandbox, request, timeout);
}

Result<int> AgentClient::CreateContainer(const pb::CreateContainerRequest& request) {
  const auto response = TRY(Call(*stub_, &pb::Agent::Stub::CreateContainer, request, kCallTimeout));
  return response.pid();
}

Result<int> AgentClient::ExecProcess(const ProcessName& name, const std::string& process_json,
                                     bool with_stdin) {
  pb::ExecProcessRequest request;
  request.set_container_id(name.container_id);
  request.set_exec_id(name.exec_id);
  request.set_process(process_json);
  request.set_stdin(with_stdin);
  const auto response = TRY(Call(*stub_, &pb::Agent::Stub::ExecProcess, request, kCallTimeout));
  return response.pid();
}

Status AgentClient::StartProcess(const ProcessName& name) {
  pb::ProcessRef request;
  FillRef(request, name);
  TRY(Call(*stub_, &pb::Agent::Stub::StartProcess, request, kCallTimeout));
  return {};
}

Result<ProcessExit> AgentClient::WaitProcess(const ProcessName& name,
                                             grpc::ClientContext& context) {
  pb::ProcessRef request;
  FillRef(request, name);
  pb::ExitStatus response;
  if (const auto status = stub_->WaitProcess(&context, request, &response); !status.ok()) {
    return tl::unexpected(rpc::FromGrpc(status));
  }
  ProcessExit result;
  result.code = std::clamp(response.exit_code(), 0, 255);
  result.signal = std::clamp(response.signal(), 0, 64);
  result.exited_at_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(
                            std::chrono::system_clock::now().time_since_epoch())
                            .count();
  result.oom_killed = response.oom_killed();
  return result;
}

Status AgentClient::SignalProcess(const ProcessName& name, int signal, bool all) {
  pb::SignalProcessRequest request;
  FillRef(*request.mutable_process(), name);
  request.set_signal(signal);
  request.set_all(all);
  TRY(Call(*stub_, &pb::Agent::Stub::SignalProcess, request, kCallTimeout));
  return {};
}

Status AgentClient::ResizeTerminal(const ProcessName& name, uint32_t rows, uint32_t columns) {
  pb::ResizeTerminalRequest request;
  FillRef(*request.mutable_process(), name);
  request.set_rows(rows);
  request.set_columns(columns);
  TRY(Call(*stub_, &pb::Agent::Stub::ResizeTerminal, request, kCallTimeout));
  return {};
}

Status AgentClient::DeleteProcess(const ProcessName& name) {
  pb::ProcessRef request;
  FillRef(request, name);
  TRY(Call(*stub_, &pb::Agent::Stub::DeleteProcess, request, kCallTimeout));
  return {};
}

Result<std::vector<pb::ListProcessesResponse::Entry>> AgentClient::ListProcesses(
    const std::string& id) {
  pb::ProcessRef request;
  request.set_container_id(id);
  const auto response = TRY(Call(*stub_, &pb::Agent::Stub::ListProcesses, request, kCallTimeout));
  if (response.processes_size() > kMaxProcesses) {
    return MakeError(ErrorCode::kResourceExhausted, "the guest reports {} processes",
                     response.processes_size());
  }
  return std::vector(response.processes().begin(), response.processes().end());
}

Status AgentClient::Pause(const std::string& id) {
  TRY(Call(*stub_, &pb::Agent::Stub::PauseContainer, MakeRef(id), kCallTimeout));
  return {};
}

Status AgentClient::Resume(const std::string& id) {
  TRY(Call(*stub_, &pb::Agent::Stub::ResumeContainer, MakeRef(id), kCallTimeout));
  return {};
}

Status AgentClient::Update(const std::string& id, const std::string& resources_json) {
  pb::UpdateContainerRequest request;
  request.set_container_id(id);
  request.set_resources(resources_json);
  TRY(Call(*stub_, &pb::Agent::Stub::UpdateContainer, request, kCallTimeout));
  return {};
}

Result<pb::ContainerStatsResponse> AgentClient::Stats(const std::string& id) {
  auto response = TRY(Call(*stub_, &pb::Agent::Stub::ContainerStats, MakeRef(id), kCallTimeout));
  TRY(CheckStats(response));
  return response;
}

Result<std::vector<std::string>> AgentClient::SetNetwork(const pb::Network& network) {
  const auto response = TRY(Call(*stub_, &pb::Agent::Stub::SetNetwork, network, kCallTimeout));
  if (response.not_set_size() > network.sysctls_size()) {
    return MakeError(ErrorCode::kInternal, "the agent names {} sysctls, and was told {}",
                     response.not_set_size(), network.sysctls_size());
  }
  std::vector<std::string> not_set;
  for (const auto& [name, value] : network.sysctls()) {
    if (std::find(response.not_set().begin(), response.not_set().end(), name) !=
        response.not_set().end()) {
      not_set.push_back(name);
    }
  }
  return not_set;
}

Status AgentClient::SetSysctls(const std::map<std::string, std::string>& sysctls) {
  pb::SetSysctlsRequest request;
  request.mutable_sysctls()->insert(sysctls.begin(), sysctls.end());
  TRY(Call(*stub_, &pb::Agent::Stub::SetSysctls, request, kCallTimeout));
  return {};
}

Status AgentClient::ShareMemory(const std::string& name, const MemoryVolume& volume) {
  pb::ShareMemoryRequest request;
  request.set_name(name);
  request.set_size_bytes(volume.size_bytes);
  request.set_huge_page_bytes(volume.huge_page_bytes);
  request.set_reserved_bytes(volume.reserved_bytes);
  request.set_mode(volume.mode);
  request.set_uid(volume.uid);
  request.set_gid(volume.gid);
  TRY(Call(*stub_, &pb::Agent::Stub::ShareMemory, request, kCallTimeout));
  return {};
}

Status AgentClient::ReleaseMemory(const std::string& name) {
  pb::ReleaseMemoryRequest request;
  request.set_name(name);
  TRY(Call(*stub_, &pb::Agent::Stub::ReleaseMemory, request, kCallTimeout));
  return {};
}

void AgentClient::Shutdown(milliseconds timeout) {
  (void)Call(*stub_, &pb::Agent::Stub::Shutdown, pb::Empty(), timeout);
}

std::unique_ptr<AgentClient::StdioStream> AgentClient::OpenStdio(grpc::ClientContext& context) {
  return stub_->Stdio(&context);
}

std::unique_ptr<AgentClient::EventStream> AgentClient::OpenEvents(grpc::ClientContext& context) {
  auto stream = stub_->Events(&context, pb::Empty());
  stream->WaitForInitialMetadata();
  return stream;
}

std::unique_ptr<AgentClient::NameStream> AgentClient::OpenNames(grpc::ClientContext& context) {
  return stub_->ResolveNames(&context);
}

}  // namespace bulkhead::shim
