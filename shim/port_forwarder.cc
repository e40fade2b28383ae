#include "shim/port_forwarder.h"

#include <poll.h>

#include <array>

#include "base/sys.h"

namespace bulkhead::shim {
namespace {

// After an error that will not pass by itself (no more fds).
constexpr std::chrono::milliseconds kPause(200);

}  // namespace

Result<std::unique_ptr<PortForwarder>> PortForwarder::Start(LoopbackListener listener,
                                                            std::shared_ptr<AgentClient> agent,
                                                            Logger& logger) {
  UniqueFd wake = TRY(sys::EventFd());
  std::unique_ptr<PortForwarder> forwarder(
      new PortForwarder(std::move(listener), std::move(agent), std::move(wake), logger));
  forwarder->thread_ =
      std::jthread([self = forwarder.get()](const std::stop_token& stop) { self->Serve(stop); });
  return forwarder;
}

PortForwarder::~PortForwarder() {
  thread_.request_stop();
  Wake();
}

void PortForwarder::Wake() const {
  const uint64_t one = 1;
  (void)sys::Write(wake_.get(), std::as_bytes(std::span(&one, 1)));
}

void PortForwarder::Serve(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    const bool full = connections_.size() >= kMaxConnections;
    std::array<pollfd, 2> polls{pollfd{wake_.get(), POLLIN, 0},
                                pollfd{full ? -1 : listener_.fd(), POLLIN, 0}};
    (void)::poll(polls.data(), polls.size(), -1);
    uint64_t count = 0;
    (void)sys::Read(wake_.get(), std::as_writable_bytes(std::span(&count, 1)));
    connections_.remove_if([](const auto& connection) { return connection->Ended(); });
    if (polls[1].revents == 0) {
      continue;
    }
    if (const Status taken = TakeNext(); !taken) {
      logger_.Warning("port forwarding: " + taken.error().message());
      std::this_thread::sleep_for(kPause);
    }
  }
  connections_.clear();
}

Status PortForwarder::TakeNext() {
  auto connection = TRY(listener_.Accept());
  if (connection) {
    auto relay = TRY(StdioRelay::Open(std::move(connection->socket), logger_));
    relay->Start(*agent_, connection->port, [this] { Wake(); });
    connections_.push_back(std::move(relay));
  }
  return {};
}

}  // namespace bulkhead::shim
