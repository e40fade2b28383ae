#include "rpc/ttrpc_server.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <map>
#include <mutex>
#include <set>
#include <span>
#include <system_error>
#include <thread>

#include "base/sys.h"
#include "containerd/ttrpc.pb.h"
#include "rpc/ttrpc_frame.h"
#include "rpc/ttrpc_socket.h"
#include "rpc/ttrpc_status.h"

namespace bulkhead::rpc {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

// A longer limit is none: it would not fit the clock.
constexpr nanoseconds kLongestTimeout = std::chrono::hours(24 * 365 * 50);
// Between tries to accept when the process or the system is short of something.
constexpr milliseconds kAcceptPause{100};
// For writers to notice that their connection has been shut.
constexpr milliseconds kLastGrace{500};

std::string MethodKey(std::string_view service, std::string_view method) {
  return fmt::format("{}/{}", service, method);
}

bool PassesByItself(const Error& error) {
  constexpr std::array kErrors{EMFILE, ENFILE,       ENOBUFS, ENOMEM, EAGAIN,
                               EINTR,  ECONNABORTED, EPROTO,  EPERM};
  return std::find(kErrors.begin(), kErrors.end(), error.errnum()) != kErrors.end();
}

// What this client makes of more than google's code and a message.
ErrorDetail DetailFor(const ttrpc::Request& request) {
  const auto& metadata = request.metadata();
  const bool understood = std::any_of(metadata.begin(), metadata.end(), [](const auto& entry) {
    return entry.key() == kErrorCodeMetadata;
  });
  return understood ? ErrorDetail::kCode : ErrorDetail::kNone;
}

std::string EncodeAnswer(uint32_t stream, const Result<std::string>& result, ErrorDetail detail) {
  ttrpc::Response response;
  if (result && result->size() <= kTtrpcMaxData) {
    response.set_payload(*result);
  } else if (!result) {
    *response.mutable_status() = ToRpcStatus(result.error(), detail);
  }
  std::string data;
  if ((result && result->size() > kTtrpcMaxData) || !response.SerializeToString(&data) ||
      data.size() > kTtrpcMaxData) {
    response.Clear();
    *response.mutable_status() = ToRpcStatus(
        Error(ErrorCode::kResourceExhausted, "the answer is longer than ttrpc allows"), detail);
    data = response.SerializeAsString();
  }
  return EncodeTtrpcFrame(stream, TtrpcType::kResponse, 0, data);
}

Result<std::string> RunHandler(const TtrpcServer::Handler& handler, std::string_view payload,
                               const CallContext& context) {
  try {
    return handler(payload, context);
  } catch (const std::exception& error) {
    return MakeError(ErrorCode::kInternal, "the handler threw: {}", error.what());
  }
}

}  // namespace

struct TtrpcServer::State {
  Options options;
  Result<UniqueFd> wake = sys::EventFd();  // readable: stopped
  mutable std::mutex mutex;                // of all below
  std::condition_variable ended;           // a call or a connection has
  std::map<std::string, std::shared_ptr<const Handler>> handlers;
  std::set<std::shared_ptr<Connection>> connections;  // those with a reader
  std::vector<std::weak_ptr<Connection>> draining;    // once stopped: those that may still answer
  size_t calls = 0;
  bool stopped = false;

  bool IsStopped() const {
    const std::lock_guard lock(mutex);
    return stopped;
  }

  Status AcceptUntilStopped(int listener, const std::shared_ptr<State>& self);
  void AddConnection(UniqueFd socket, const std::shared_ptr<State>& self);
  Result<std::shared_ptr<const Handler>> BeginCall(const ttrpc::Request& request);
  void EndCall();
};

// One peer. Owned by its reader and by its calls, whichever is last.
class TtrpcServer::Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(UniqueFd socket, ::ucred peer, std::shared_ptr<State> server)
      : socket_(std::move(socket)), peer_(peer), server_(std::move(server)) {}

  // The reader's thread.
  void Run() {
    ReadFrames(socket_.get(), [this](const TtrpcFrame& frame) { OnFrame(frame); });
    stop_.request_stop();
    if (!server_->IsStopped()) {
      Shutdown(SHUT_RDWR);  // the peer is gone: nobody waits for an answer
    }
  }

  // No further request; answers still go out.
  void Drain() {
    Shutdown(SHUT_RD);
    stop_.request_stop();
  }

  void Shutdown(int how) { (void)::shutdown(socket_.get(), how); }

 private:
  void OnFrame(const TtrpcFrame& frame) {
    if (frame.type != TtrpcType::kRequest) {
      return;  // data of a stream that was refused, or something of a later version
    }
    const Status status = StartCall(frame);
    // Once stopped, the connection's end is the answer: to containerd a second Shutdown that meets
    // it has succeeded, one that is refused has failed.
    if (!status && !server_->IsStopped()) {
      Answer(frame.stream, tl::unexpected<Error>(status.error()), ErrorDetail::kNone);
    }
  }

  Status StartCall(const TtrpcFrame& frame) {
    if (frame.too_long) {
      return MakeError(ErrorCode::kResourceExhausted, "the request is longer than {} bytes",
                       kTtrpcMaxData);
    }
    if (frame.stream % 2 != 1) {
      return MakeError(ErrorCode::kInvalidArgument, "a client's stream id must be odd");
    }
    if ((frame.flags & kTtrpcRemoteOpen) != 0) {
      return MakeError(ErrorCode::kUnimplemented, "no method here is a stream");
    }
    auto request = std::make_shared<ttrpc::Request>();
    if (!request->ParseFromString(frame.data)) {
      return MakeError(ErrorCode::kInvalidArgument, "the ttrpc request cannot be parsed");
    }
    auto handler = TRY(server_->BeginCall(*request));
    try {
      std::thread([self = shared_from_this(), request = std::move(request),
                   handler = std::move(handler), stream = frame.stream]() mutable {
        const auto server = self->server_;
        self->Answer(stream, RunHandler(*handler, request->payload(), self->Context(*request)),
                     DetailFor(*request));
        handler.reset();
        request.reset();
        self.reset();
        server->EndCall();
      }).detach();
    } catch (const std::system_error& error) {
      server_->EndCall();
      return MakeError(ErrorCode::kResourceExhausted, "cannot start a thread: {}", error.what());
    }
    return {};
  }

  CallContext Context(const ttrpc::Request& request) const {
    std::optional<CallContext::Clock::time_point> deadline;
    const nanoseconds timeout(request.timeout_nano());
    if (timeout > nanoseconds(0) && timeout < kLongestTimeout) {
      deadline = CallContext::Clock::now() + timeout;
    }
    CallContext::Metadata metadata;
    for (const auto& entry : request.metadata()) {
      if (entry.key() != kErrorCodeMetadata) {  // of the protocol, not of the call
        metadata.emplace_back(entry.key(), entry.value());
      }
    }
    return {stop_.get_token(), deadline, peer_, std::move(metadata)};
  }

  void Answer(uint32_t stream, const Result<std::string>& result, ErrorDetail detail) {
    const std::string frame = EncodeAnswer(stream, result, detail);
    const std::lock_guard lock(write_mutex_);
    size_t sent = 0;
    // A peer that reads nothing holds up its own answers only. When it is gone, the reader tells.
    (void)SendBytes(socket_.get(), frame, std::nullopt, sent);
  }

  const UniqueFd socket_;
  const ::ucred peer_;
  const std::shared_ptr<State> server_;
  std::stop_source stop_;
  std::mutex write_mutex_;
};

Result<std::shared_ptr<const TtrpcServer::Handler>> TtrpcServer::State::BeginCall(
    const ttrpc::Request& request) {
  const std::lock_guard lock(mutex);
  const auto found = handlers.find(MethodKey(request.service(), request.method()));
  if (found == handlers.end()) {
    return MakeError(ErrorCode::kUnimplemented, "there is no method {} of {}", request.method(),
                     request.service());
  }
  if (stopped) {
    return MakeError(ErrorCode::kUnavailable, "the server is stopping");
  }
  if (calls >= options.max_calls) {
    return MakeError(ErrorCode::kResourceExhausted, "{} calls are running already", calls);
  }
  ++calls;
  return found->second;
}

void TtrpcServer::State::EndCall() {
  const std::lock_guard lock(mutex);
  --calls;
  ended.notify_all();
}

void TtrpcServer::State::AddConnection(UniqueFd socket, const std::shared_ptr<State>& self) {
  const auto peer = sys::PeerCredentials(socket.get());
  if (!peer || (peer->uid != ::geteuid() && peer->uid != 0)) {
    return;
  }
  auto connection = std::make_shared<Connection>(std::move(socket), *peer, self);
  {
    const std::lock_guard lock(mutex);
    if (stopped || connections.size() >= options.max_connections) {
      return;
    }
    connections.insert(connection);
  }
  const auto forget = [](State& state, std::shared_ptr<Connection>& gone) {
    const std::lock_guard lock(state.mutex);
    state.connections.erase(gone);
    gone.reset();
    state.ended.notify_all();
  };
  try {
    std::thread([self, connection, forget]() mutable {
      connection->Run();
      forget(*self, connection);
    }).detach();
  } catch (const std::system_error&) {
    forget(*this, connection);
  }
}

Status TtrpcServer::State::AcceptUntilStopped(int listener, const std::shared_ptr<State>& self) {
  while (!IsStopped()) {
    std::array<::pollfd, 2> fds{::pollfd{wake->get(), POLLIN, 0}, ::pollfd{listener, POLLIN, 0}};
    const Status polled = sys::CheckCall(::poll(fds.data(), fds.size(), -1), "poll");
    if (!polled) {
      if (polled.error().errnum() == EINTR) {
        continue;
      }
      return polled;
    }
    if (fds[1].revents == 0) {
      continue;
    }
    auto socket = sys::Accept(listener);
    if (socket) {
      AddConnection(std::move(*socket), self);
    } else if (!PassesByItself(socket.error())) {
      return tl::unexpected<Error>(std::move(socket).error());
    } else {
      (void)sys::PollOne(wake->get(), POLLIN, kAcceptPause);
    }
  }
  return {};
}

TtrpcServer::TtrpcServer(Options options) : state_(std::make_shared<State>()) {
  state_->options = options;
}

TtrpcServer::~TtrpcServer() { Stop(); }

void TtrpcServer::Register(std::string_view service, std::string_view method, Handler handler) {
  const std::lock_guard lock(state_->mutex);
  state_->handlers[MethodKey(service, method)] =
      std::make_shared<const Handler>(std::move(handler));
}

Status TtrpcServer::Serve(UniqueFd listener) {
  State& state = *state_;
  if (!state.wake) {
    return tl::unexpected<Error>(state.wake.error());
  }
  // A peer that gives up between poll and accept must not leave us blocked in accept.
  TRY(sys::SetNonblocking(listener.get(), true));
  const Status result = state.AcceptUntilStopped(listener.get(), state_);
  listener.Reset();
  Stop();  // when it is the listener that failed

  std::unique_lock lock(state.mutex);
  const auto quiet = [&] { return state.calls == 0 && state.connections.empty(); };
  if (!state.ended.wait_for(lock, state.options.stop_grace, quiet)) {
    const auto left = state.draining;
    lock.unlock();
    for (const auto& weak : left) {
      if (const auto connection = weak.lock()) {
        connection->Shutdown(SHUT_RDWR);
      }
    }
    lock.lock();
    (void)state.ended.wait_for(lock, kLastGrace, quiet);
  }
  return result;
}

void TtrpcServer::Stop() {
  std::set<std::shared_ptr<Connection>> connections;
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->stopped) {
      return;
    }
    state_->stopped = true;
    connections = state_->connections;
    state_->draining.assign(connections.begin(), connections.end());
  }
  if (state_->wake) {
    const uint64_t one = 1;
    (void)sys::Write(state_->wake->get(), std::as_bytes(std::span(&one, 1)));
  }
  for (const auto& connection : connections) {
    connection->Drain();
  }
}

size_t TtrpcServer::running_calls() const {
  const std::lock_guard lock(state_->mutex);
  return state_->calls;
}

}  // namespace bulkhead::rpc
