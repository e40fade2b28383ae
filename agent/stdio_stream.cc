#include "agent/stdio_stream.h"

#include <atomic>
#include <utility>

#include "rpc/status.h"

namespace bulkhead::agent {
namespace {

namespace wire = ::bulkhead::agent::v1;

class StdioStream final : public grpc::ServerBidiReactor<wire::StdioInput, wire::StdioOutput>,
                          public StdioSink {
 public:
  explicit StdioStream(FindStdio find) : find_(std::move(find)) { StartRead(&input_); }

  void OnReadDone(bool ok) override {
    if (!ok) {
      // The host has half-closed or is gone. Before `open` there is nothing to wait for.
      if (!stdio_) {
        FinishOnce(grpc::Status(grpc::INVALID_ARGUMENT, "the stream opened nothing"));
      }
      return;
    }
    if (!stdio_) {
      auto found = find_(input_);
      if (!found) {
        return FinishOnce(rpc::ToGrpc(found.error()));
      }
      stdio_ = std::move(*found);
      stdio_->Attach(this);
    }
    if (auto taken = stdio_->Input(this, TakeInput()); !taken) {
      stdio_->Detach(this);
      return FinishOnce(rpc::ToGrpc(taken.error()));
    }
    StartRead(&input_);
  }

  void OnWriteDone(bool ok) override {
    std::optional<OutputChunk> failed;
    if (!ok) {
      failed = OutputChunk{static_cast<Stream>(output_.stream()),
                           std::move(*output_.mutable_data()), output_.eof(), 0, false};
    }
    stdio_->Sent(this, std::move(failed));
  }

  void OnCancel() override {
    if (stdio_) {
      stdio_->Detach(this);
    }
    FinishOnce(grpc::Status::CANCELLED);
  }

  void OnDone() override {
    if (stdio_) {
      stdio_->Detach(this);
    }
    delete this;
  }

  void Send(OutputChunk chunk) override {
    output_.Clear();
    output_.set_stream(static_cast<wire::StdioStream>(chunk.stream));
    output_.set_data(std::move(chunk.data));
    output_.set_eof(chunk.eof);
    output_.set_stdin_credit(chunk.stdin_credit);
    output_.set_stdin_closed(chunk.stdin_closed);
    StartWrite(&output_);
  }

  void Close(bool replaced) override {
    FinishOnce(replaced ? grpc::Status(grpc::ABORTED, "another stream took over")
                        : grpc::Status::OK);
  }

 private:
  InputChunk TakeInput() {
    InputChunk chunk;
    chunk.data = std::move(*input_.mutable_data());
    chunk.stdin_eof = input_.stdin_eof();
    chunk.credit = {input_.stdout_credit(), input_.stderr_credit()};
    chunk.closed = {input_.stdout_closed(), input_.stderr_closed()};
    return chunk;
  }

  void FinishOnce(const grpc::Status& status) {
    if (!finished_.exchange(true)) {
      Finish(status);
    }
  }

  const FindStdio find_;
  std::shared_ptr<Stdio> stdio_;
  wire::StdioInput input_;
  wire::StdioOutput output_;
  std::atomic<bool> finished_ = false;
};

}  // namespace

grpc::ServerBidiReactor<wire::StdioInput, wire::StdioOutput>* NewStdioStream(FindStdio find) {
  return new StdioStream(std::move(find));
}

}  // namespace bulkhead::agent
