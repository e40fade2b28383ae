// What the pod's processes ask Docker's name server at 127.0.0.11: the agent takes their queries,
// this asks the server in the pod's network namespace on the host and gives back its answers. The
// guest is trusted in nothing: who breaks the rules of proto/agent.proto loses its stream.
#pragma once

#include <grpcpp/client_context.h>

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "shim/agent_client.h"
#include "shim/network/name_question.h"

namespace bulkhead::shim {

class NameRelay {
 public:
  // That wait for their answers at once.
  static constexpr size_t kMaxQueries = 64;
  static constexpr size_t kMaxUdpQuery = 4096;
  static constexpr size_t kMaxTcpQuery = 65535;

  // Returns when the guest takes queries, or with the reason why it does not. `logger` outlives it.
  static Result<std::unique_ptr<NameRelay>> Start(
      UniqueFd netns, std::shared_ptr<AgentClient> agent, Logger& logger,
      NameQuestion::Clock::duration patience = NameQuestion::kPatience);
  // What is not answered never is.
  ~NameRelay();
  NameRelay(const NameRelay&) = delete;
  NameRelay& operator=(const NameRelay&) = delete;

 private:
  using Questions = std::map<uint64_t, NameQuestion>;
  struct Query {
    uint64_t id = 0;
    bool tcp = false;
    std::string message;
  };

  NameRelay(UniqueFd netns, UniqueFd wake, std::shared_ptr<AgentClient> agent, Logger& logger,
            NameQuestion::Clock::duration patience)
      : netns_(std::move(netns)),
        wake_(std::move(wake)),
        agent_(std::move(agent)),
        logger_(logger),
        patience_(patience) {}
  void ReadQueries();
  void StreamOver();
  Status Take(pb::NameQuery query);
  void Serve();
  // nullopt: the stream is over.
  std::optional<std::vector<Query>> TakenQueries();
  void Ask(Query query, Questions& questions);
  void Await(const Questions& questions);
  void Collect(Questions& questions);
  void Answer(uint64_t id, const std::string& message);
  void End();
  void Wake() const;

  const UniqueFd netns_;
  const UniqueFd wake_;
  const std::shared_ptr<AgentClient> agent_;
  Logger& logger_;
  const NameQuestion::Clock::duration patience_;
  grpc::ClientContext context_;
  std::unique_ptr<AgentClient::NameStream> stream_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Query> taken_;    // and not asked yet
  std::set<uint64_t> waiting_;  // ids
  bool listens_ = false;        // the guest
  bool stream_over_ = false;
  bool stopping_ = false;
  std::optional<Error> fault_;  // of the guest
  std::optional<Error> end_;    // why it is all over

  std::thread reader_;
  std::thread server_;
};

}  // namespace bulkhead::shim
