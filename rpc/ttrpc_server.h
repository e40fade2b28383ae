// A ttrpc server of unary methods, on a UNIX stream socket. A thread for each connection reads it,
// a thread for each request runs its handler; answers leave in the order they are ready.
#pragma once

#include <sys/socket.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead::rpc {

// What a handler may know of its call.
class CallContext {
 public:
  using Clock = std::chrono::steady_clock;
  using Metadata = std::vector<std::pair<std::string, std::string>>;

  CallContext() = default;
  CallContext(std::stop_token stop, std::optional<Clock::time_point> deadline, ::ucred peer,
              Metadata metadata)
      : stop_(std::move(stop)), deadline_(deadline), peer_(peer), metadata_(std::move(metadata)) {}

  // Stop is requested when the caller's connection is gone and when the server stops. A handler
  // that may block for long waits with it (std::condition_variable_any::wait, std::stop_callback)
  // and returns soon after: its answer matters to nobody, but the thread must end.
  const std::stop_token& stop_token() const { return stop_; }
  bool Cancelled() const { return stop_.stop_requested(); }

  // When the caller ceases to wait; none for a caller without a limit.
  std::optional<Clock::time_point> deadline() const { return deadline_; }
  bool DeadlinePassed() const { return deadline_ && Clock::now() >= *deadline_; }

  const ::ucred& peer() const { return peer_; }
  const Metadata& metadata() const { return metadata_; }

 private:
  std::stop_token stop_;
  std::optional<Clock::time_point> deadline_;
  ::ucred peer_{};
  Metadata metadata_;
};

struct TtrpcServerOptions {
  size_t max_calls = 1024;       // handlers running at once; one more: RESOURCE_EXHAUSTED
  size_t max_connections = 256;  // one more is closed at once
  // How long Serve() waits, once stopped, for handlers to return and their answers to leave.
  std::chrono::milliseconds stop_grace{3000};
};

class TtrpcServer {
 public:
  using Handler =
      std::function<Result<std::string>(std::string_view payload, const CallContext& context)>;
  using Options = TtrpcServerOptions;

  explicit TtrpcServer(Options options = {});
  ~TtrpcServer();  // Serve() must have returned
  TtrpcServer(const TtrpcServer&) = delete;
  TtrpcServer& operator=(const TtrpcServer&) = delete;

  // Call it before Serve(). One handler may run in many threads at once.
  void Register(std::string_view service, std::string_view method, Handler handler);

  // The same for protobuf messages; Req and Resp must be named:
  //   server.RegisterMethod<StateRequest, StateResponse>("containerd.task.v2.Task", "State", f);
  template <class Req, class Resp>
  void RegisterMethod(std::string_view service, std::string_view method,
                      std::function<Result<Resp>(const Req&, const CallContext&)> handler) {
    Register(service, method,
             [handler = std::move(handler)](std::string_view payload,
                                            const CallContext& context) -> Result<std::string> {
               Req request;
               if (!request.ParseFromArray(payload.data(), static_cast<int>(payload.size()))) {
                 return MakeError(ErrorCode::kInvalidArgument, "the request cannot be parsed");
               }
               const Resp response = TRY(handler(request, context));
               std::string bytes;
               if (!response.SerializeToString(&bytes)) {
                 return MakeError(ErrorCode::kInternal, "the answer cannot be serialised");
               }
               return bytes;
             });
  }

  // Accepts connections of our own uid and of root until Stop(); once per server. Then every
  // handler's stop token fires, and Serve() returns when the last handler has returned and its
  // answer is sent, or stop_grace later. A handler that ignores its stop token is left behind in
  // its thread: what it captured must then outlive it (running_calls() tells; a process that
  // exits next need not care). Fails when the listener does.
  Status Serve(UniqueFd listener);

  // Makes Serve() return: no new connection or request is taken. Never blocks; may be called from
  // a handler (whose own answer is still sent), from any thread, more than once, before Serve().
  // Not from a signal handler.
  void Stop();

  size_t running_calls() const;

 private:
  struct State;
  class Connection;

  std::shared_ptr<State> state_;  // shared with the threads of connections and calls
};

}  // namespace bulkhead::rpc
