#include "agent/oom_watch.h"

#include <sys/epoll.h>
#include <sys/inotify.h>

#include <array>

#include "agent/cgroup_stats.h"
#include "base/sys.h"

namespace bulkhead::agent {

Result<std::shared_ptr<OomWatch>> OomWatch::Create(IoLoop& loop, OnOom on_oom) {
  UniqueFd inotify(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  TRY(sys::CheckCall(inotify.get(), "inotify_init1"));
  auto watch = std::make_shared<OomWatch>(loop, std::move(inotify), std::move(on_oom));
  watch->token_ = loop.Add(watch->inotify_.get(), watch->weak_from_this(), 0);
  loop.Arm(watch->token_, watch->inotify_.get(), EPOLLIN);
  return watch;
}

OomWatch::~OomWatch() { loop_.Remove(token_, inotify_.get()); }

OomWatch::Key OomWatch::Watch(const std::string& id, const std::string& cgroup) {
  const std::scoped_lock lock(mutex_);
  const int watch =
      ::inotify_add_watch(inotify_.get(), (cgroup + "/memory.events").c_str(), IN_MODIFY);
  entries_.emplace(next_, Entry{watch, id, cgroup, CountOomKills(cgroup)});
  return next_++;
}

void OomWatch::Forget(Key key) {
  const std::scoped_lock lock(mutex_);
  const auto found = entries_.find(key);
  if (found != entries_.end()) {
    ::inotify_rm_watch(inotify_.get(), found->second.watch);
    entries_.erase(found);
  }
}

void OomWatch::Check(Key key) {
  const std::scoped_lock lock(mutex_);
  const auto found = entries_.find(key);
  if (found != entries_.end()) {
    Look(found->second);
  }
}

// Told with the lock held: whoever sees a count that was told already can rely on it.
void OomWatch::Look(Entry& entry) {
  const uint64_t kills = CountOomKills(entry.cgroup);
  if (kills > entry.kills) {
    entry.kills = kills;
    on_oom_(entry.id);
  }
}

void OomWatch::OnReady(int /*tag*/, uint32_t /*events*/) {
  // Which file it was does not matter: the counts tell, and there are few containers in a VM.
  alignas(inotify_event) std::array<std::byte, 4096> buffer{};
  while (sys::Read(inotify_.get(), buffer)) {
  }
  {
    const std::scoped_lock lock(mutex_);
    for (auto& [key, entry] : entries_) {
      Look(entry);
    }
  }
  loop_.Arm(token_, inotify_.get(), EPOLLIN);
}

}  // namespace bulkhead::agent
