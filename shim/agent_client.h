// The host's side of proto/agent.proto: the agent's calls as functions that return Result, each
// with a deadline. What comes back is the guest's word and is checked here:
//   - messages are at most 4 MiB (rpc/channel.h), error texts 4 KiB and printable (rpc/status.h);
//   - exit codes are cut to 0-255, signals to 0-64;
//   - process lists of more than 32768 entries are refused, and statistics with a list of more than
//     4096 or a name of more than 256 bytes.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "proto_gen/agent.grpc.pb.h"
#include "shim/memory_volume.h"

namespace bulkhead::shim {

namespace pb = agent::v1;

// A process in the guest: a container's init when exec_id is empty.
struct ProcessName {
  std::string container_id;
  std::string exec_id;
};

struct ProcessExit {
  int code = 0;              // 0-255; 128 + signal
  int signal = 0;            // 0: it exited by itself
  int64_t exited_at_ns = 0;  // the host's wall clock
  bool oom_killed = false;
};

class AgentClient {
 public:
  explicit AgentClient(UniqueFd socket);

  Result<pb::ConfigureSandboxResponse> ConfigureSandbox(const pb::ConfigureSandboxRequest& request,
                                                        std::chrono::milliseconds timeout);
  Result<int> CreateContainer(const pb::CreateContainerRequest& request);
  Result<int> ExecProcess(const ProcessName& name, const std::string& process_json,
                          bool with_stdin);
  Status StartProcess(const ProcessName& name);
  // Blocks for as long as the process runs; fails when the VM is gone or `context` is cancelled.
  Result<ProcessExit> WaitProcess(const ProcessName& name, grpc::ClientContext& context);
  Status SignalProcess(const ProcessName& name, int signal, bool all);
  Status ResizeTerminal(const ProcessName& name, uint32_t rows, uint32_t columns);
  Status DeleteProcess(const ProcessName& name);
  Result<std::vector<pb::ListProcessesResponse::Entry>> ListProcesses(const std::string& id);
  Status Pause(const std::string& id);
  Status Resume(const std::string& id);
  // `resources_json`: the linux.resources object of config.json; what it does not name stays.
  Status Update(const std::string& id, const std::string& resources_json);
  // Makes the pod's network in the guest what is described; may be called again at any time. Waits
  // for interfaces that are being plugged in; names the entry that is wrong or refused.
  // The names of sysctls that the guest's kernel does not have or refuses, of those that it was
  // told.
  Result<std::vector<std::string>> SetNetwork(const pb::Network& network);
  // Of the guest's own namespaces; names the parameter that is wrong or refused.
  Status SetSysctls(const std::map<std::string, std::string>& sysctls);
  Status ShareMemory(const std::string& name, const MemoryVolume& volume);
  Status ReleaseMemory(const std::string& name);
  Result<pb::ContainerStatsResponse> Stats(const std::string& id);
  // Syncs the guest's file systems and powers it off; a guest that does not answer is given up.
  void Shutdown(std::chrono::milliseconds timeout);

  // The stream of stdin, stdout and stderr; `context` must outlive it.
  using StdioStream = grpc::ClientReaderWriter<pb::StdioInput, pb::StdioOutput>;
  std::unique_ptr<StdioStream> OpenStdio(grpc::ClientContext& context);

  // What happens to containers from now on: returns when the guest listens. A later stream takes
  // the place of this one. The reader decides what an id that it does not know is worth.
  using EventStream = grpc::ClientReader<pb::Event>;
  std::unique_ptr<EventStream> OpenEvents(grpc::ClientContext& context);

  // What processes of the pod ask 127.0.0.11; `context` must outlive it.
  using NameStream = grpc::ClientReaderWriter<pb::NameAnswer, pb::NameQuery>;
  std::unique_ptr<NameStream> OpenNames(grpc::ClientContext& context);

 private:
  std::unique_ptr<pb::Agent::Stub> stub_;
};

void FillRef(pb::ProcessRef& ref, const ProcessName& name);

// Whether a guest's statistics are of a size that may be passed on.
Status CheckStats(const pb::ContainerStatsResponse& stats);

}  // namespace bulkhead::shim
