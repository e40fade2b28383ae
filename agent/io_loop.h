// One thread that waits for readiness of many fds and tells their owners, once per Arm.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead::agent {

class IoHandler {
 public:
  virtual ~IoHandler() = default;
  // `tag` as given to Add; `events`: EPOLL*. On the loop's thread; must not block.
  virtual void OnReady(int tag, uint32_t events) = 0;
};

class IoLoop {
 public:
  static Result<std::unique_ptr<IoLoop>> Create();
  ~IoLoop();
  IoLoop(const IoLoop&) = delete;
  IoLoop& operator=(const IoLoop&) = delete;

  using Token = uint64_t;
  // Not armed yet. The fd must stay open until Remove.
  Token Add(int fd, std::weak_ptr<IoHandler> handler, int tag);
  void Arm(Token token, int fd, uint32_t events);
  // The same after a while; only that the other end is closed is told before.
  void ArmLater(Token token, int fd, uint32_t events, std::chrono::milliseconds delay);
  void Remove(Token token, int fd);

 private:
  IoLoop(UniqueFd epoll, UniqueFd wake);
  void Run();
  void Wake();
  int ArmWhatIsDue();  // returns the milliseconds until the next is; -1: none
  void Tell(uint64_t token, uint32_t events);

  struct Entry {
    std::weak_ptr<IoHandler> handler;
    int tag;
  };
  struct Later {
    std::chrono::steady_clock::time_point due;
    int fd;
    uint32_t events;
  };
  UniqueFd epoll_;
  UniqueFd wake_;
  std::mutex mutex_;
  std::map<Token, Entry> entries_;
  std::map<Token, Later> later_;
  bool stopping_ = false;
  Token next_ = 1;
  std::thread thread_;
};

}  // namespace bulkhead::agent
