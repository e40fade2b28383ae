#include "agent/io_loop.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <span>

#include "base/sys.h"

namespace bulkhead::agent {

Result<std::unique_ptr<IoLoop>> IoLoop::Create() {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  TRY(sys::CheckCall(epoll.get(), "epoll_create1"));
  UniqueFd wake = TRY(sys::EventFd());
  epoll_event event{EPOLLIN, {.u64 = 0}};
  TRY(sys::CheckCall(::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event), "epoll_ctl"));
  return std::unique_ptr<IoLoop>(new IoLoop(std::move(epoll), std::move(wake)));
}

IoLoop::IoLoop(UniqueFd epoll, UniqueFd wake) : epoll_(std::move(epoll)), wake_(std::move(wake)) {
  thread_ = std::thread([this] { Run(); });
}

IoLoop::~IoLoop() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  Wake();
  thread_.join();
}

void IoLoop::Wake() {
  const uint64_t one = 1;
  static_cast<void>(sys::Write(wake_.get(), std::as_bytes(std::span(&one, 1))));
}

IoLoop::Token IoLoop::Add(int fd, std::weak_ptr<IoHandler> handler, int tag) {
  Token token = 0;
  {
    const std::scoped_lock lock(mutex_);
    token = next_++;
    entries_.emplace(token, Entry{std::move(handler), tag});
  }
  epoll_event event{EPOLLONESHOT, {.u64 = token}};
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event);
  return token;
}

void IoLoop::Arm(Token token, int fd, uint32_t events) {
  epoll_event event{events | EPOLLONESHOT, {.u64 = token}};
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event);
}

void IoLoop::ArmLater(Token token, int fd, uint32_t events, std::chrono::milliseconds delay) {
  Arm(token, fd, 0);
  const std::scoped_lock lock(mutex_);
  later_.insert_or_assign(token, Later{std::chrono::steady_clock::now() + delay, fd, events});
  if (std::this_thread::get_id() != thread_.get_id()) {
    Wake();
  }
}

void IoLoop::Remove(Token token, int fd) {
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  const std::scoped_lock lock(mutex_);
  entries_.erase(token);
  later_.erase(token);
}

int IoLoop::ArmWhatIsDue() {
  using std::chrono::milliseconds;
  const std::scoped_lock lock(mutex_);
  const auto now = std::chrono::steady_clock::now();
  int64_t next = -1;
  for (auto later = later_.begin(); later != later_.end();) {
    const auto& [token, what] = *later;
    const int64_t rest = std::chrono::ceil<milliseconds>(what.due - now).count();
    if (rest <= 0) {
      Arm(token, what.fd, what.events);  // with the lock: the fd is open until Remove has it
      later = later_.erase(later);
      continue;
    }
    next = next < 0 ? rest : std::min(next, rest);
    ++later;
  }
  return static_cast<int>(next);
}

void IoLoop::Tell(uint64_t token, uint32_t events) {
  std::shared_ptr<IoHandler> handler;
  int tag = 0;
  {
    const std::scoped_lock lock(mutex_);
    const auto found = entries_.find(token);
    if (found != entries_.end()) {
      handler = found->second.handler.lock();
      tag = found->second.tag;
    }
  }
  if (handler) {
    handler->OnReady(tag, events);
  }
}

void IoLoop::Run() {
  std::array<epoll_event, 32> events{};
  while (true) {
    const int count = ::epoll_wait(epoll_.get(), events.data(), events.size(), ArmWhatIsDue());
    for (int i = 0; i < count; ++i) {
      const epoll_event& event = events[static_cast<size_t>(i)];
      if (event.data.u64 != 0) {
        Tell(event.data.u64, event.events);
        continue;
      }
      uint64_t wakes = 0;
      static_cast<void>(sys::Read(wake_.get(), std::as_writable_bytes(std::span(&wakes, 1))));
      const std::scoped_lock lock(mutex_);
      if (stopping_) {
        return;
      }
    }
  }
}

}  // namespace bulkhead::agent
