// stdin, stdout and stderr of one process, between the client's targets and the agent's stream; or
// a connection to a server in the pod, whose directions are stdin and stdout.
// A thread reads the stream; another moves bytes to and from the fifos. What the guest may have
// under way is bounded by the credit given (kWindow a stream): a client that does not read holds up
// that stream's writer in the guest, never the shim.
#pragma once

#include <grpcpp/client_context.h>

#include <array>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/log.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "shim/agent_client.h"
#include "shim/container_log.h"
#include "shim/stdio_target.h"

namespace bulkhead::shim {

class StdioRelay {
 public:
  static constexpr uint32_t kWindow = 4U << 20U;

  // Opens the targets. `log` may be null; it and `logger` outlive the relay.
  static Result<std::unique_ptr<StdioRelay>> Open(const StdioPaths& paths,
                                                  const StdioPolicy& policy, ContainerLog* log,
                                                  Logger& logger);
  // Between a server in the pod and its client at `socket` (non-blocking); one that cannot be
  // reached, or ends in an error, is a reset of the connection.
  static Result<std::unique_ptr<StdioRelay>> Open(UniqueFd socket, Logger& logger);
  ~StdioRelay();  // cuts off what still runs
  StdioRelay(const StdioRelay&) = delete;
  StdioRelay& operator=(const StdioRelay&) = delete;

  // The process exists in the guest: begins to move bytes. `agent` outlives the relay.
  void Start(AgentClient& agent, const ProcessName& name);
  // The client dialed this TCP port of the pod's loopback. `on_end`, when all is over, is called by
  // a thread of the relay, which Ended() from then on.
  void Start(AgentClient& agent, uint16_t port, std::function<void()> on_end);
  bool Ended() const;
  // The client has no more to write: the end comes after what the fifo holds.
  void CloseStdin();
  // All output was handed to the clients (or thrown away, where there is none).
  bool WaitDrained(std::chrono::milliseconds timeout);
  // The same, but no longer than output moves without such a pause.
  void WaitQuiet(std::chrono::milliseconds pause, std::chrono::milliseconds timeout);
  // Ends what waits for it and its threads soon after; the destructor waits for those.
  void Stop();

 private:
  struct Output {
    UniqueFd fifo;  // or file, or a logger's pipe
    std::deque<std::string> queue;
    size_t offset = 0;          // written of the first
    size_t queued = 0;          // bytes in the queue
    uint32_t credit = kWindow;  // to be given
    bool eof = false;           // no more will come from the guest
    bool cut = false;           // and it did not say so
    bool hung_up = false;       // the client is gone
    bool told = false;          // the guest knows of it
    UniqueFd kept;              // of a fifo at its end that nobody has opened yet
  };

  StdioRelay(ContainerLog* log, Logger& logger) : log_(log), logger_(logger) {}
  void Begin(AgentClient& agent, pb::StdioInput first);
  void ReadStream();
  bool Take(const pb::StdioOutput& message);
  void MoveBytes(pb::StdioInput message);
  void WriteOutput(Output& output);
  void ReadStdin(pb::StdioInput& message);
  // False when there is nothing to say.
  bool Compose(pb::StdioInput& message);
  bool Drained() const;
  void AwaitReaders();
  void Wake();

  ContainerLog* const log_;
  Logger& logger_;
  UniqueFd wake_;
  UniqueFd in_;
  std::optional<StdioLogger> logger_process_;
  grpc::ClientContext context_;
  std::unique_ptr<AgentClient::StdioStream> stream_;

  std::function<void()> on_end_;

  mutable std::mutex mutex_;
  std::condition_variable drained_;
  std::array<Output, 2> outputs_;
  uint64_t in_credit_ = 0;
  bool in_closing_ = false;  // the client will write no more
  bool in_eof_ = false;      // the client's end, to be told
  bool in_done_ = false;     // told, or the process closed it
  bool stream_ended_ = false;
  bool stopping_ = false;
  bool ended_ = false;
  uint64_t moved_ = 0;  // bytes of output that came or went

  std::thread reader_;
  std::thread mover_;
};

}  // namespace bulkhead::shim
