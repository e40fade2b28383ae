#include "shim/event_publisher.h"

#include <fmt/core.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "containerd/forward.pb.h"
#include "google/protobuf/empty.pb.h"

namespace bulkhead::shim {
namespace {

using std::chrono::milliseconds;

constexpr char kService[] = "containerd.services.events.ttrpc.v1.Events";
constexpr char kMethod[] = "Forward";
constexpr char kNamespaceKey[] = "containerd-namespace-ttrpc";
constexpr milliseconds kConnectTimeout{1000};

std::string PathOf(std::string_view address) {
  constexpr std::string_view kScheme = "unix://";
  return std::string(address.starts_with(kScheme) ? address.substr(kScheme.size()) : address);
}

void SetNow(google::protobuf::Timestamp& timestamp) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto seconds = std::chrono::floor<std::chrono::seconds>(now);
  timestamp.set_seconds(seconds.count());
  timestamp.set_nanos(static_cast<int32_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(now - seconds).count()));
}

}  // namespace

EventPublisher::EventPublisher(const std::string& address, std::string container_namespace,
                               Logger& logger, Options options)
    : path_(PathOf(address)),
      namespace_(std::move(container_namespace)),
      logger_(logger),
      options_(options) {
  if (!path_.empty()) {
    sender_ = std::thread([this] { Run(); });
  }
}

EventPublisher::~EventPublisher() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    if (client_) {
      client_->Close();  // frees a call that waits
    }
    changed_.notify_all();
  }
  if (sender_.joinable()) {
    sender_.join();
  }
  const size_t lost = events_.size() + (sending_ ? 1 : 0);
  if (lost != 0) {
    logger_.Warning(fmt::format("{} events were not delivered to containerd", lost));
  }
}

void EventPublisher::Publish(std::string topic, google::protobuf::Any event) {
  if (path_.empty()) {
    return;
  }
  containerd::services::events::ttrpc::v1::ForwardRequest request;
  auto& envelope = *request.mutable_envelope();
  envelope.set_namespace_(namespace_);
  envelope.set_topic(topic);
  *envelope.mutable_event() = std::move(event);

  const std::lock_guard lock(mutex_);
  SetNow(*envelope.mutable_timestamp());  // here: in order, as the events are
  events_.push_back({std::move(topic), request.SerializeAsString()});
  if (events_.size() > options_.max_events) {
    DropOne();
  }
  changed_.notify_all();
}

bool EventPublisher::Flush(milliseconds timeout) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, timeout, [&] { return events_.empty() && !sending_; });
}

// A lost exit leaves an engine waiting for ever; the others only tell of progress.
void EventPublisher::DropOne() {
  const auto found = std::find_if(events_.begin(), events_.end(),
                                  [](const Event& event) { return event.topic != kTopicExit; });
  events_.erase(found == events_.end() ? events_.begin() : found);
  ++dropped_;
}

void EventPublisher::Run() {
  milliseconds pause = options_.first_pause;
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return stopping_ || sending_ || !events_.empty(); });
    if (stopping_) {
      return;
    }
    if (DeliverFront(lock)) {
      pause = options_.first_pause;
      continue;
    }
    changed_.wait_for(lock, pause, [&] { return stopping_; });
    pause = std::min(pause * 2, options_.longest_pause);
  }
}

// False: try again later. The lock is released meanwhile.
bool EventPublisher::DeliverFront(std::unique_lock<std::mutex>& lock) {
  if (!sending_) {
    sending_ = std::move(events_.front());
    events_.pop_front();
  }
  const size_t dropped = std::exchange(dropped_, 0);
  lock.unlock();
  LogDropped(dropped);
  const Outcome outcome = Send(*sending_);
  lock.lock();
  if (outcome == Outcome::kTryAgain) {
    return false;
  }
  sending_.reset();
  changed_.notify_all();
  return true;
}

// An answer, good or bad, settles the event. Without one it may have arrived or not; a second exit
// event does less harm than none, so it is sent again.
EventPublisher::Outcome EventPublisher::Send(const Event& event) {
  const auto client = Connected();
  if (!client) {
    return Outcome::kTryAgain;
  }
  const auto answer = client->Call(kService, kMethod, event.request, options_.call_timeout,
                                   {{kNamespaceKey, namespace_}});
  if (answer) {
    away_ = false;
    return Outcome::kDelivered;
  }
  const ErrorCode code = answer.error().code();
  if (code == ErrorCode::kUnavailable || code == ErrorCode::kDeadlineExceeded) {
    LogAway("it does not answer");
    Disconnect();
    return Outcome::kTryAgain;
  }
  logger_.Error("containerd refuses an event: " + answer.error().message(),
                {{"topic", event.topic}});
  return Outcome::kRefused;
}

std::shared_ptr<rpc::TtrpcClient> EventPublisher::Connected() {
  {
    const std::lock_guard lock(mutex_);
    if (client_ && !client_->closed()) {
      return client_;
    }
  }
  Disconnect();
  auto client = rpc::TtrpcClient::Connect(path_, kConnectTimeout);
  if (!client) {
    LogAway(client.error().message());
    return nullptr;
  }
  const std::lock_guard lock(mutex_);
  if (stopping_) {
    return nullptr;
  }
  client_ = std::move(*client);
  return client_;
}

void EventPublisher::Disconnect() {
  std::shared_ptr<rpc::TtrpcClient> client;
  const std::lock_guard lock(mutex_);
  client.swap(client_);  // and it ends after the lock
}

void EventPublisher::LogAway(const std::string& reason) {
  if (!std::exchange(away_, true)) {
    logger_.Info("containerd takes no events, they are kept: " + reason);
  }
}

void EventPublisher::LogDropped(size_t count) {
  if (count != 0) {
    logger_.Warning(
        fmt::format("{} events were dropped: containerd took none, and more than {} "
                    "were waiting",
                    count, options_.max_events));
  }
}

}  // namespace bulkhead::shim
