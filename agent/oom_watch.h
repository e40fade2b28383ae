// Tells when the kernel's OOM killer strikes in the cgroup of a container.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "agent/io_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead::agent {

class OomWatch : public IoHandler, public std::enable_shared_from_this<OomWatch> {
 public:
  using OnOom = std::function<void(const std::string& id)>;  // from any thread: must not block

  static Result<std::shared_ptr<OomWatch>> Create(IoLoop& loop, OnOom on_oom);
  OomWatch(IoLoop& loop, UniqueFd inotify, OnOom on_oom)
      : loop_(loop), inotify_(std::move(inotify)), on_oom_(std::move(on_oom)) {}
  ~OomWatch() override;

  using Key = uint64_t;  // never 0: names may come again while the old container still goes
  // `cgroup` is a folder. Without a memory controller nothing will be told.
  Key Watch(const std::string& id, const std::string& cgroup);
  void Forget(Key key);
  // Looks now: the kernel's notice may come after the end of the process that was killed.
  void Check(Key key);

  void OnReady(int tag, uint32_t events) override;

 private:
  struct Entry {
    int watch;
    std::string id;
    std::string cgroup;
    uint64_t kills;
  };
  void Look(Entry& entry);  // with the lock

  IoLoop& loop_;
  const UniqueFd inotify_;
  const OnOom on_oom_;
  IoLoop::Token token_ = 0;
  std::mutex mutex_;
  std::map<Key, Entry> entries_;
  Key next_ = 1;
};

}  // namespace bulkhead::agent
