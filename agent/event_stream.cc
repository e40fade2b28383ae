#include "agent/event_stream.h"

#include <atomic>

namespace bulkhead::agent {
namespace {

namespace wire = ::bulkhead::agent::v1;

class EventStream final : public grpc::ServerWriteReactor<wire::Event>, public EventSink {
 public:
  explicit EventStream(EventFeed& feed) : feed_(feed) {
    feed_.Attach(this);
    StartSendInitialMetadata();
  }

  void OnSendInitialMetadataDone(bool ok) override { OnWriteDone(ok); }
  void OnWriteDone(bool ok) override {
    if (ok) {
      feed_.Sent(this);
    } else {
      feed_.Detach(this);
    }
  }
  void OnCancel() override {
    feed_.Detach(this);
    FinishOnce(grpc::Status::CANCELLED);
  }
  void OnDone() override {
    feed_.Detach(this);
    delete this;
  }

  void SendOom(const std::string& id) override {
    event_.set_container_id(id);
    event_.set_kind(wire::Event::OOM);
    StartWrite(&event_);
  }
  void Replaced() override { FinishOnce(grpc::Status(grpc::ABORTED, "another stream took over")); }

 private:
  void FinishOnce(const grpc::Status& status) {
    if (!finished_.exchange(true)) {
      Finish(status);
    }
  }

  EventFeed& feed_;
  wire::Event event_;
  std::atomic<bool> finished_ = false;
};

}  // namespace

grpc::ServerWriteReactor<wire::Event>* NewEventStream(EventFeed& feed) {
  return new EventStream(feed);
}

}  // namespace bulkhead::agent
