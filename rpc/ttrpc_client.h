// A ttrpc client: unary calls over one connection, from any number of threads at once.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead::rpc {

class TtrpcClient {
 public:
  using Timeout = std::optional<std::chrono::milliseconds>;  // none: waits for ever
  using Metadata = std::vector<std::pair<std::string, std::string>>;

  // `timeout` is for a server that has ceased to accept.
  static Result<std::unique_ptr<TtrpcClient>> Connect(const std::string& path,
                                                      Timeout timeout = std::nullopt);
  static Result<std::unique_ptr<TtrpcClient>> FromFd(UniqueFd socket);

  // Fails the calls still waiting, with kUnavailable, and returns when its own thread is gone. No
  // thread may be inside Call() by then: Close() first, and join them.
  ~TtrpcClient();
  TtrpcClient(const TtrpcClient&) = delete;
  TtrpcClient& operator=(const TtrpcClient&) = delete;

  // Sends one request and waits for its answer. The server learns of the timeout too. An error the
  // server answered has the server's code; beyond these:
  //   kUnavailable        the connection is closed, or closes before the answer comes
  //   kDeadlineExceeded   no answer in time; the connection stays, a late answer is dropped
  //   kResourceExhausted  the request, or its answer, is longer than ttrpc allows
  Result<std::string> Call(std::string_view service, std::string_view method,
                           std::string_view payload, Timeout timeout = std::nullopt,
                           const Metadata& metadata = {});

  // The same for protobuf messages: client.Call<StateResponse>(service, "State", request).
  template <class Resp, class Req>
  Result<Resp> Call(std::string_view service, std::string_view method, const Req& request,
                    Timeout timeout = std::nullopt, const Metadata& metadata = {}) requires
      requires(std::string* out) {
    request.SerializeToString(out);
  }
  {
    std::string payload;
    if (!request.SerializeToString(&payload)) {
      return MakeError(ErrorCode::kInternal, "cannot serialise the request of {}", method);
    }
    const std::string answer =
        TRY(Call(service, method, std::string_view(payload), timeout, metadata));
    Resp response;
    if (!response.ParseFromString(answer)) {
      return MakeError(ErrorCode::kInternal, "the answer of {} cannot be parsed", method);
    }
    return response;
  }

  // True once the connection is gone: every further call fails with kUnavailable.
  bool closed() const;
  // Closes the connection now. Calls that wait fail with kUnavailable. Any thread may call it.
  void Close();

 private:
  struct State;

  explicit TtrpcClient(std::shared_ptr<State> state);

  std::shared_ptr<State> state_;
  std::thread reader_;
};

}  // namespace bulkhead::rpc
