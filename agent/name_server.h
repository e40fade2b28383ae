// The name server that Docker has on the host, as the pod's processes see it: takes their queries
// (DNS over UDP and TCP, not looked into) and gives back the host's answers. Knows nothing of gRPC.
#pragma once

#include <netinet/in.h>

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "agent/io_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead::agent {

struct NameQuery {
  uint64_t id = 0;
  bool tcp = false;
  std::string message;
};

// The stream to the host. Called with the server's lock held.
class NameQuerySink {
 public:
  virtual ~NameQuerySink() = default;
  // The next one comes only after NameServer::Sent.
  virtual void Send(NameQuery query) = 0;
  // Another stream took over.
  virtual void Replaced() = 0;
};

class NameServer final : public IoHandler, public std::enable_shared_from_this<NameServer> {
 public:
  // That wait for an answer, of which the host promises one each; others wait in their sockets.
  static constexpr size_t kMaxQueries = 64;
  // Over TCP; of more, the one that was silent for longest is closed.
  static constexpr size_t kMaxConnections = 32;
  static constexpr size_t kMaxUdpQuery = 4096;

  // At a port of 127.0.0.11 that the kernel chooses, in the caller's network namespace. Without a
  // stream queries are dropped.
  static Result<std::shared_ptr<NameServer>> Create(IoLoop& loop);
  ~NameServer() override;
  NameServer(const NameServer&) = delete;
  NameServer& operator=(const NameServer&) = delete;

  // Has the address and the port, which are those of TCP, too.
  int socket() const { return udp_.get(); }

  // The first that is sent is empty.
  void Attach(NameQuerySink* sink);
  void Detach(NameQuerySink* sink);
  void Sent(NameQuerySink* sink);
  // An empty message: there is none.
  void Answer(NameQuerySink* sink, uint64_t id, const std::string& message);

  void OnReady(int tag, uint32_t events) override;

 private:
  struct Connection {
    UniqueFd socket;
    IoLoop::Token token = 0;
    std::string in;
    std::string out;
    bool waits = false;  // for an answer: one query at a time
    uint64_t used = 0;   // when, in events
  };
  struct Client {
    int connection = 0;  // its tag; 0: UDP
    sockaddr_in address{};
  };

  NameServer(IoLoop& loop, UniqueFd udp, UniqueFd listener)
      : loop_(loop), udp_(std::move(udp)), listener_(std::move(listener)) {}

  // All under the lock.
  bool Full() const { return waiting_.size() >= kMaxQueries; }
  void ReadUdp();
  void Accept();
  void MakeRoom();
  // Moves what can be moved and waits for the rest. False: it is over.
  bool Advance(Connection& connection, int tag);
  bool Receive(Connection& connection);
  void Enqueue(bool tcp, std::string message, const Client& client);
  void Pump();
  void Close(int tag);
  void Forget();

  IoLoop& loop_;
  const UniqueFd udp_;
  const UniqueFd listener_;
  IoLoop::Token udp_token_ = 0;
  IoLoop::Token listener_token_ = 0;

  // Recursive: gRPC may tell of a write's end from within the write's start.
  std::recursive_mutex mutex_;
  NameQuerySink* sink_ = nullptr;
  bool sending_ = false;
  std::deque<NameQuery> pending_;
  std::map<uint64_t, Client> waiting_;  // by id
  uint64_t next_id_ = 1;
  std::map<int, Connection> connections_;  // by tag
  int next_tag_ = 0;
  uint64_t events_ = 0;
};

}  // namespace bulkhead::agent
