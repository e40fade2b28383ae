#include "agent/event_feed.h"

#include <algorithm>
#include <utility>

namespace bulkhead::agent {

void EventFeed::PublishOom(const std::string& id) {
  const std::scoped_lock lock(mutex_);
  if (sink_ == nullptr || std::find(pending_.begin(), pending_.end(), id) != pending_.end()) {
    return;
  }
  if (pending_.size() == kMaxPending) {
    pending_.pop_front();
  }
  pending_.push_back(id);
  Pump();
}

void EventFeed::Attach(EventSink* sink) {
  const std::scoped_lock lock(mutex_);
  EventSink* before = std::exchange(sink_, sink);
  sending_ = true;
  pending_.clear();
  if (before != nullptr) {
    before->Replaced();
  }
}

void EventFeed::Detach(EventSink* sink) {
  const std::scoped_lock lock(mutex_);
  if (sink_ == sink) {
    sink_ = nullptr;
    pending_.clear();
  }
}

void EventFeed::Sent(EventSink* sink) {
  const std::scoped_lock lock(mutex_);
  if (sink_ == sink) {
    sending_ = false;
    Pump();
  }
}

void EventFeed::Pump() {
  if (sink_ == nullptr || sending_ || pending_.empty()) {
    return;
  }
  const std::string id = std::move(pending_.front());
  pending_.pop_front();
  sending_ = true;
  sink_->SendOom(id);  // last: it may call back
}

}  // namespace bulkhead::agent
