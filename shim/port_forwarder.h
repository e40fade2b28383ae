// The engine's port forwarding (kubectl port-forward): it dials loopback in the pod's network
// namespace on the host, and is given the server at that port of the guest's loopback.
#pragma once

#include <list>
#include <memory>
#include <thread>

#include "base/log.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "shim/agent_client.h"
#include "shim/network/loopback_listener.h"
#include "shim/stdio_relay.h"

namespace bulkhead::shim {

class PortForwarder {
 public:
  // At once; further ones wait in the listener's queue.
  static constexpr size_t kMaxConnections = 64;

  // Serves until it is destroyed, which cuts off what is still connected. `logger` outlives it.
  static Result<std::unique_ptr<PortForwarder>> Start(LoopbackListener listener,
                                                      std::shared_ptr<AgentClient> agent,
                                                      Logger& logger);
  ~PortForwarder();
  PortForwarder(const PortForwarder&) = delete;
  PortForwarder& operator=(const PortForwarder&) = delete;

 private:
  PortForwarder(LoopbackListener listener, std::shared_ptr<AgentClient> agent, UniqueFd wake,
                Logger& logger)
      : listener_(std::move(listener)),
        agent_(std::move(agent)),
        wake_(std::move(wake)),
        logger_(logger) {}
  void Serve(const std::stop_token& stop);
  Status TakeNext();
  void Wake() const;

  LoopbackListener listener_;
  const std::shared_ptr<AgentClient> agent_;
  const UniqueFd wake_;  // something ended
  Logger& logger_;
  std::list<std::unique_ptr<StdioRelay>> connections_;  // of the thread alone
  std::jthread thread_;
};

}  // namespace bulkhead::shim
