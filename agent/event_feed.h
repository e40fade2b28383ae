// Between those who have news of containers and the one stream that takes them to the host. Knows
// nothing of gRPC.
#pragma once

#include <cstddef>
#include <deque>
#include <mutex>
#include <string>

namespace bulkhead::agent {

// The stream. Called with the feed's lock held.
class EventSink {
 public:
  virtual ~EventSink() = default;
  // The next one comes only after EventFeed::Sent.
  virtual void SendOom(const std::string& id) = 0;
  // Another stream took over.
  virtual void Replaced() = 0;
};

class EventFeed {
 public:
  // Containers that wait to be told; of more, the oldest are dropped (a host that does not read).
  static constexpr size_t kMaxPending = 1024;

  // To the stream there is; dropped without one. What is not sent yet is not told twice.
  void PublishOom(const std::string& id);

  // From now on; the first goes out when the sink says Sent.
  void Attach(EventSink* sink);
  void Detach(EventSink* sink);
  void Sent(EventSink* sink);

 private:
  void Pump();

  // Recursive: gRPC may tell of a write's end from within the write's start.
  std::recursive_mutex mutex_;
  EventSink* sink_ = nullptr;
  bool sending_ = false;
  std::deque<std::string> pending_;
};

}  // namespace bulkhead::agent
