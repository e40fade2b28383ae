// Tells containerd what happens to tasks: each event once, in order, kept while containerd is down.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/log.h"
#include "base/result.h"
#include "google/protobuf/any.pb.h"
#include "rpc/ttrpc_client.h"

namespace bulkhead::shim {

inline constexpr char kTopicCreate[] = "/tasks/create";
inline constexpr char kTopicStart[] = "/tasks/start";
inline constexpr char kTopicExit[] = "/tasks/exit";
inline constexpr char kTopicDelete[] = "/tasks/delete";
inline constexpr char kTopicOom[] = "/tasks/oom";
inline constexpr char kTopicExecAdded[] = "/tasks/exec-added";
inline constexpr char kTopicExecStarted[] = "/tasks/exec-started";
inline constexpr char kTopicPaused[] = "/tasks/paused";
inline constexpr char kTopicResumed[] = "/tasks/resumed";
inline constexpr char kTopicCheckpointed[] = "/tasks/checkpointed";

struct EventPublisherOptions {
  size_t max_events = 8192;  // kept; beyond that the oldest that is no exit is dropped
  std::chrono::milliseconds call_timeout{5000};
  std::chrono::milliseconds first_pause{20};  // between tries; doubled up to the longest
  std::chrono::milliseconds longest_pause{1000};
};

class EventPublisher {
 public:
  using Options = EventPublisherOptions;

  // `address`: containerd's ttrpc socket, a path or "unix://PATH"; empty: events go nowhere.
  // `logger` must outlive the publisher.
  EventPublisher(const std::string& address, std::string container_namespace, Logger& logger,
                 Options options = {});
  // Drops what is not delivered yet: Flush() first.
  ~EventPublisher();
  EventPublisher(const EventPublisher&) = delete;
  EventPublisher& operator=(const EventPublisher&) = delete;

  // Any thread; never waits for containerd. The event happened now.
  void Publish(std::string topic, google::protobuf::Any event);

  // Waits until all that was published is delivered (or refused); false when the time ran out.
  bool Flush(std::chrono::milliseconds timeout);

 private:
  struct Event {
    std::string topic;
    std::string request;  // a serialised ForwardRequest
  };
  enum class Outcome { kDelivered, kRefused, kTryAgain };

  void Run();
  bool DeliverFront(std::unique_lock<std::mutex>& lock);
  Outcome Send(const Event& event);
  std::shared_ptr<rpc::TtrpcClient> Connected();
  void Disconnect();
  void LogAway(const std::string& reason);
  void LogDropped(size_t count);
  void DropOne();  // with mutex_

  const std::string path_;
  const std::string namespace_;
  Logger& logger_;
  const Options options_;
  bool away_ = false;  // the sender's: it has logged that containerd is not there

  std::mutex mutex_;  // of all below but sender_
  std::condition_variable changed_;
  std::deque<Event> events_;
  std::optional<Event> sending_;  // changed by the sender alone, but with mutex_
  size_t dropped_ = 0;            // and not yet logged
  bool stopping_ = false;
  std::shared_ptr<rpc::TtrpcClient> client_;  // set by the sender alone; the destructor closes it

  std::thread sender_;
};

}  // namespace bulkhead::shim
