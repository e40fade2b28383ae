#include "agent/name_stream.h"

#include <atomic>
#include <utility>

#include "rpc/status.h"

namespace bulkhead::agent {
namespace {

namespace wire = ::bulkhead::agent::v1;

using Reactor = grpc::ServerBidiReactor<wire::NameAnswer, wire::NameQuery>;

class Refusal final : public Reactor {
 public:
  explicit Refusal(const grpc::Status& status) { Finish(status); }
  void OnDone() override { delete this; }
};

class NameStream final : public Reactor, public NameQuerySink {
 public:
  explicit NameStream(std::shared_ptr<NameServer> server) : server_(std::move(server)) {
    server_->Attach(this);
    StartRead(&answer_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      server_->Detach(this);
      return FinishOnce(grpc::Status::OK);
    }
    server_->Answer(this, answer_.id(), answer_.message());
    StartRead(&answer_);
  }
  void OnWriteDone(bool ok) override {
    if (ok) {
      server_->Sent(this);
    } else {
      server_->Detach(this);
    }
  }
  void OnCancel() override {
    server_->Detach(this);
    FinishOnce(grpc::Status::CANCELLED);
  }
  void OnDone() override {
    server_->Detach(this);
    delete this;
  }

  void Send(NameQuery query) override {
    query_.set_id(query.id);
    query_.set_tcp(query.tcp);
    query_.set_message(std::move(query.message));
    StartWrite(&query_);
  }
  void Replaced() override { FinishOnce(grpc::Status(grpc::ABORTED, "another stream took over")); }

 private:
  void FinishOnce(const grpc::Status& status) {
    if (!finished_.exchange(true)) {
      Finish(status);
    }
  }

  const std::shared_ptr<NameServer> server_;
  wire::NameAnswer answer_;
  wire::NameQuery query_;
  std::atomic<bool> finished_ = false;
};

}  // namespace

Reactor* NewNameStream(Result<std::shared_ptr<NameServer>> server) {
  if (!server) {
    return new Refusal(rpc::ToGrpc(server.error()));
  }
  return new NameStream(std::move(*server));
}

}  // namespace bulkhead::agent
