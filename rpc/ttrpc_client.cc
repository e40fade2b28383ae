#include "rpc/ttrpc_client.h"

#include <sys/socket.h>

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <system_error>
#include <utility>

#include "base/sys.h"
#include "containerd/ttrpc.pb.h"
#include "rpc/ttrpc_frame.h"
#include "rpc/ttrpc_socket.h"
#include "rpc/ttrpc_status.h"

namespace bulkhead::rpc {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// A longer limit is none: it would not fit the clock.
constexpr milliseconds kLongestTimeout = std::chrono::hours(24 * 365 * 50);

tl::unexpected<Error> Lost() {
  return MakeError(ErrorCode::kUnavailable, "the connection to the pod's daemon was lost");
}

tl::unexpected<Error> Late(std::string_view service, std::string_view method) {
  return MakeError(ErrorCode::kDeadlineExceeded, "no answer to {}.{} in time", service, method);
}

Result<std::string> ParseAnswer(const TtrpcFrame& frame) {
  if (frame.too_long) {
    return MakeError(ErrorCode::kResourceExhausted, "the answer is longer than ttrpc allows");
  }
  ttrpc::Response response;
  if (!response.ParseFromString(frame.data)) {
    return MakeError(ErrorCode::kInternal, "a ttrpc answer cannot be parsed");
  }
  if (response.status().code() != 0) {
    return tl::unexpected<Error>(FromRpcStatus(response.status()));
  }
  return std::move(*response.mutable_payload());
}

Result<std::string> EncodeRequest(std::string_view service, std::string_view method,
                                  std::string_view payload, TtrpcClient::Timeout timeout,
                                  const TtrpcClient::Metadata& metadata) {
  ttrpc::Request request;
  request.set_service(std::string(service));
  request.set_method(std::string(method));
  request.set_payload(payload.data(), payload.size());
  if (timeout) {
    request.set_timeout_nano(std::chrono::nanoseconds(*timeout).count());
  }
  const auto add = [&](const std::string& key, const std::string& value) {
    auto* entry = request.add_metadata();
    entry->set_key(key);
    entry->set_value(value);
  };
  for (const auto& [key, value] : metadata) {
    add(key, value);
  }
  add(kErrorCodeMetadata, "1");
  std::string data;
  if (payload.size() > kTtrpcMaxData || !request.SerializeToString(&data) ||
      data.size() > kTtrpcMaxData) {
    return MakeError(ErrorCode::kResourceExhausted, "the request {} is longer than ttrpc allows",
                     method);
  }
  return data;
}

// Returns false when the deadline passed first.
template <typename Done>
bool Await(std::condition_variable& changed, std::unique_lock<std::mutex>& lock,
           const std::optional<Clock::time_point>& deadline, Done done) {
  if (deadline) {
    return changed.wait_until(lock, *deadline, done);
  }
  changed.wait(lock, done);
  return true;
}

}  // namespace

struct TtrpcClient::State {
  struct Waiting {
    std::condition_variable answered;
    std::optional<Result<std::string>> answer;
  };

  UniqueFd socket;
  std::mutex mutex;  // of all below
  std::map<uint32_t, Waiting*> waiting;
  // Requests go out one at a time and in the order of their stream ids: servers insist.
  bool writing = false;
  std::condition_variable write_turn;
  uint32_t next_stream = 1;
  bool closed = false;  // no further call; answers may still come

  void Shutdown() { (void)::shutdown(socket.get(), SHUT_RDWR); }

  void RefuseCalls() {
    closed = true;
    write_turn.notify_all();
  }

  void OnFrame(const TtrpcFrame& frame) {
    if (frame.type != TtrpcType::kResponse) {
      return;  // streams: none is ours
    }
    auto answer = ParseAnswer(frame);
    const std::lock_guard lock(mutex);
    const auto found = waiting.find(frame.stream);
    if (found != waiting.end()) {
      Settle(found, std::move(answer));
    }
  }

  void OnEnd() {
    const std::lock_guard lock(mutex);
    RefuseCalls();
    while (!waiting.empty()) {
      Settle(waiting.begin(), Lost());
    }
  }

  // The call may end, and with it `Waiting`, as soon as the lock is released.
  void Settle(std::map<uint32_t, Waiting*>::iterator place, Result<std::string> answer) {
    Waiting* call = place->second;
    waiting.erase(place);
    call->answer = std::move(answer);
    call->answered.notify_all();
  }
};

TtrpcClient::TtrpcClient(std::shared_ptr<State> state) : state_(std::move(state)) {}

Result<std::unique_ptr<TtrpcClient>> TtrpcClient::Connect(const std::string& path,
                                                          Timeout timeout) {
  return FromFd(TRY(sys::ConnectUnix(path, timeout)));
}

Result<std::unique_ptr<TtrpcClient>> TtrpcClient::FromFd(UniqueFd socket) {
  auto state = std::make_shared<State>();
  state->socket = std::move(socket);
  std::unique_ptr<TtrpcClient> client(new TtrpcClient(state));
  try {
    client->reader_ = std::thread([state] {
      ReadFrames(state->socket.get(), [&](const TtrpcFrame& frame) { state->OnFrame(frame); });
      state->OnEnd();
      state->Shutdown();
    });
  } catch (const std::system_error& error) {
    return MakeError(ErrorCode::kResourceExhausted, "cannot start a thread: {}", error.what());
  }
  return client;
}

TtrpcClient::~TtrpcClient() {
  Close();
  if (reader_.joinable()) {
    reader_.join();
  }
}

bool TtrpcClient::closed() const {
  const std::lock_guard lock(state_->mutex);
  return state_->closed;
}

void TtrpcClient::Close() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->RefuseCalls();
  }
  state_->Shutdown();
}

Result<std::string> TtrpcClient::Call(std::string_view service, std::string_view method,
                                      std::string_view payload, Timeout timeout,
                                      const Metadata& metadata) {
  if (timeout && *timeout <= milliseconds(0)) {
    return Late(service, method);
  }
  std::optional<Clock::time_point> deadline;
  if (timeout && *timeout < kLongestTimeout) {
    deadline = Clock::now() + *timeout;
  } else {
    timeout.reset();
  }
  const std::string data = TRY(EncodeRequest(service, method, payload, timeout, metadata));

  State& state = *state_;
  State::Waiting call;
  std::unique_lock lock(state.mutex);
  if (!Await(state.write_turn, lock, deadline, [&] { return !state.writing || state.closed; })) {
    return Late(service, method);
  }
  if (state.closed) {
    return Lost();
  }
  const uint32_t stream = state.next_stream;
  state.next_stream += 2;
  if (state.next_stream < stream) {
    state.RefuseCalls();  // 2^31 calls: this is the last one
  }
  state.waiting.emplace(stream, &call);
  state.writing = true;
  lock.unlock();
  const std::string frame = EncodeTtrpcFrame(stream, TtrpcType::kRequest, 0, data);
  size_t sent = 0;
  const Status status = SendBytes(state.socket.get(), frame, deadline, sent);
  lock.lock();
  state.writing = false;
  state.write_turn.notify_one();

  if (!status) {
    state.waiting.erase(stream);
    const bool late = status.error().code() == ErrorCode::kDeadlineExceeded;
    if (late && sent == 0) {
      return Late(service, method);
    }
    state.RefuseCalls();
    if (late) {
      state.Shutdown();  // half a request is out: nothing can follow it
      return Late(service, method);
    }
    // A server that stops reads no more, but still answers what it has: the reader goes on.
    return call.answer ? std::move(*call.answer) : Lost();
  }
  if (!Await(call.answered, lock, deadline, [&] { return call.answer.has_value(); })) {
    state.waiting.erase(stream);
    return Late(service, method);
  }
  return std::move(*call.answer);
}

}  // namespace bulkhead::rpc
