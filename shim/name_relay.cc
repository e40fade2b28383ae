#include "shim/name_relay.h"

#include <poll.h>

#include <algorithm>
#include <system_error>

#include "base/sys.h"
#include "rpc/status.h"

namespace bulkhead::shim {
namespace {

// Generous, as for all that a starved guest is asked.
constexpr std::chrono::seconds kStartTime(30);
constexpr std::chrono::seconds kWriteTime(1);

}  // namespace

Result<std::unique_ptr<NameRelay>> NameRelay::Start(UniqueFd netns,
                                                    std::shared_ptr<AgentClient> agent,
                                                    Logger& logger,
                                                    NameQuestion::Clock::duration patience) {
  UniqueFd wake = TRY(sys::EventFd());
  std::unique_ptr<NameRelay> relay(
      new NameRelay(std::move(netns), std::move(wake), std::move(agent), logger, patience));
  relay->stream_ = relay->agent_->OpenNames(relay->context_);
  try {
    relay->server_ = std::thread([self = relay.get()] { self->Serve(); });
    relay->reader_ = std::thread([self = relay.get()] { self->ReadQueries(); });
  } catch (const std::system_error& error) {
    relay->StreamOver();  // nobody reads it
    return MakeError(ErrorCode::kResourceExhausted, "thread: {}", error.what());
  }
  std::unique_lock lock(relay->mutex_);
  relay->changed_.wait_for(lock, kStartTime, [&] { return relay->listens_ || relay->end_; });
  if (relay->listens_) {
    lock.unlock();
    return relay;
  }
  Error error = relay->end_.value_or(
      Error(ErrorCode::kDeadlineExceeded, "the guest did not answer for too long"));
  lock.unlock();
  return tl::unexpected(std::move(error));
}

NameRelay::~NameRelay() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  context_.TryCancel();
  for (std::thread* thread : {&reader_, &server_}) {
    if (thread->joinable()) {
      thread->join();
    }
  }
}

void NameRelay::StreamOver() {
  const std::lock_guard lock(mutex_);
  stream_over_ = true;
  Wake();
}

void NameRelay::Wake() const {
  const uint64_t one = 1;
  (void)sys::Write(wake_.get(), std::as_bytes(std::span(&one, 1)));
}

void NameRelay::ReadQueries() {
  Status taken;
  while (taken) {
    pb::NameQuery query;
    if (!stream_->Read(&query)) {
      break;
    }
    taken = Take(std::move(query));
    Wake();
  }
  if (!taken) {
    context_.TryCancel();
  }
  std::unique_lock lock(mutex_);
  stream_over_ = true;
  if (!taken) {
    fault_ = taken.error();
  }
  Wake();
  // Who waits to write is not told of the guest's end by it.
  if (!changed_.wait_for(lock, kWriteTime, [this] { return end_.has_value(); })) {
    context_.TryCancel();
  }
}

// Errors: the guest broke the rules and is heard no more.
Status NameRelay::Take(pb::NameQuery query) {
  const std::lock_guard lock(mutex_);
  if (!listens_) {
    listens_ = true;
    changed_.notify_all();
    return {};
  }
  const size_t limit = query.tcp() ? kMaxTcpQuery : kMaxUdpQuery;
  if (query.message().size() > limit) {
    return MakeError(ErrorCode::kInvalidArgument, "the guest sent a query of {} bytes",
                     query.message().size());
  }
  if (waiting_.size() >= kMaxQueries) {
    return MakeError(ErrorCode::kResourceExhausted, "the guest sent more than {} queries at once",
                     kMaxQueries);
  }
  if (!waiting_.insert(query.id()).second) {
    return MakeError(ErrorCode::kInvalidArgument, "the guest sent two queries of number {}",
                     query.id());
  }
  // Not the message itself: it may bring fields that nobody knows, of any size.
  taken_.push_back({query.id(), query.tcp(), std::move(*query.mutable_message())});
  return {};
}

void NameRelay::Serve() {
  Questions questions;
  while (auto queries = TakenQueries()) {
    for (Query& query : *queries) {
      Ask(std::move(query), questions);
    }
    Collect(questions);
    Await(questions);
  }
  End();
}

std::optional<std::vector<NameRelay::Query>> NameRelay::TakenQueries() {
  const std::lock_guard lock(mutex_);
  if (stream_over_) {
    return std::nullopt;
  }
  return std::exchange(taken_, {});
}

void NameRelay::Ask(Query query, Questions& questions) {
  auto question = NameQuestion::Ask(netns_.get(), query.tcp, std::move(query.message), patience_);
  if (question) {
    questions.emplace(query.id, std::move(*question));
  } else {
    Answer(query.id, "");
  }
}

void NameRelay::Await(const Questions& questions) {
  using std::chrono::milliseconds;
  std::vector<pollfd> polls{{wake_.get(), POLLIN, 0}};
  int timeout = -1;
  if (!questions.empty()) {
    auto soonest = NameQuestion::Clock::time_point::max();
    for (const auto& [id, question] : questions) {
      polls.push_back({question.fd(), question.events(), 0});
      soonest = std::min(soonest, question.deadline());
    }
    const auto left = std::chrono::ceil<milliseconds>(soonest - NameQuestion::Clock::now());
    timeout = static_cast<int>(std::max(left, milliseconds::zero()).count());
  }
  (void)::poll(polls.data(), polls.size(), timeout);
  uint64_t count = 0;
  (void)sys::Read(wake_.get(), std::as_writable_bytes(std::span(&count, 1)));
}

void NameRelay::Collect(Questions& questions) {
  const auto now = NameQuestion::Clock::now();
  for (auto question = questions.begin(); question != questions.end();) {
    auto answer = question->second.Advance();
    if (!answer && now >= question->second.deadline()) {
      answer = "";
    }
    const uint64_t id = question->first;
    if (!answer) {
      ++question;
      continue;
    }
    question = questions.erase(question);
    Answer(id, *answer);
  }
}

void NameRelay::Answer(uint64_t id, const std::string& message) {
  {
    const std::lock_guard lock(mutex_);
    waiting_.erase(id);  // before the guest may use it again
  }
  pb::NameAnswer answer;
  answer.set_id(id);
  answer.set_message(message);
  (void)stream_->Write(answer);  // ReadQueries learns of the end, too
}

void NameRelay::End() {
  const grpc::Status status = stream_->Finish();
  const std::lock_guard lock(mutex_);
  Error error(ErrorCode::kUnavailable, "the guest ended the stream");
  if (fault_) {
    error = *fault_;
  } else if (!status.ok()) {
    error = rpc::FromGrpc(status);
  }
  // That the guest is gone, or is left, is told elsewhere.
  if (listens_ && !stopping_ && (fault_ || error.code() != ErrorCode::kUnavailable)) {
    logger_.Warning("names are not resolved any more: " + error.message());
  }
  end_ = std::move(error);
  changed_.notify_all();
}

}  // namespace bulkhead::shim
