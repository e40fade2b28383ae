// Open files that a client hands to the daemon over a socket of the pod's folder, before it names
// them in a request as fd://TOKEN/NAME. Those that nobody asks for are closed.
#pragma once

#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead::shim {

class FdStore {
 public:
  struct Limits {
    size_t sets = 64;                        // of one client each; beyond: the oldest is closed
    std::chrono::milliseconds age{120'000};  // of a set that nobody asks for
  };
  static constexpr size_t kMaxNames = 8;

  // Takes sets of files from whoever connects to `listener`. `logger` outlives it.
  static Result<std::unique_ptr<FdStore>> Serve(UniqueFd listener, Logger& logger, Limits limits);
  ~FdStore();
  FdStore(const FdStore&) = delete;
  FdStore& operator=(const FdStore&) = delete;

  // Once each: what was handed over is the caller's now.
  Result<UniqueFd> Take(const std::string& token, const std::string& name);
  // By "fd://TOKEN/NAME".
  Result<UniqueFd> Take(std::string_view uri);
  size_t size() const;

 private:
  struct Set {
    std::string token;
    std::chrono::steady_clock::time_point since;
    std::map<std::string, UniqueFd> fds;
  };

  FdStore(UniqueFd listener, UniqueFd stop, Logger& logger, Limits limits);
  void Run();
  Status Receive(int connection);
  // How long until the next one is too old; -1: none is there.
  int Expire();

  const UniqueFd listener_;
  const UniqueFd stop_;
  Logger& logger_;
  const Limits limits_;
  mutable std::mutex mutex_;
  std::deque<Set> sets_;  // oldest first
  std::thread thread_;
};

struct NamedFd {
  std::string name;
  int fd;
};
// The client's side. The files are the daemon's when this returns.
Status HandOverFds(const std::string& socket, const std::string& token,
                   const std::vector<NamedFd>& fds);

// A file of any kind, as a relay wants it: it does not block. Where that can be, it is opened anew:
// the flag belongs to the open file, which others share.
Result<UniqueFd> NonblockingCopy(UniqueFd fd, int access);

}  // namespace bulkhead::shim
