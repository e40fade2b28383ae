// Takes the exit status of every child of the agent: of managed ones to hand it on, of orphans
// (whose parents have ended) so that they do not pile up as zombies.
#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "base/result.h"
#include "base/sys.h"
#include "base/unique_fd.h"

namespace bulkhead::agent {

class Reaper {
 public:
  using OnExit = std::function<void(sys::Exit)>;  // on the reaper's thread: must not block

  // To be called before any thread exists: blocks SIGCHLD for all that come.
  static Result<std::unique_ptr<Reaper>> Create();
  ~Reaper();
  Reaper(const Reaper&) = delete;
  Reaper& operator=(const Reaper&) = delete;

  // Starts the thread (after the zygote's fork).
  void Start();

  // While one lives, unknown dead children are kept: one may be about to become managed.
  class Launch {
   public:
    explicit Launch(Reaper& reaper);
    ~Launch();
    Launch(const Launch&) = delete;
    Launch& operator=(const Launch&) = delete;

   private:
    Reaper& reaper_;
  };
  // Called at most once, even when the child has ended already. During a Launch.
  void Manage(pid_t pid, OnExit on_exit);

 private:
  Reaper(UniqueFd signals, UniqueFd wake) : signals_(std::move(signals)), wake_(std::move(wake)) {}
  void Run();
  void Sweep();
  bool ReapOne();
  void Wake();

  UniqueFd signals_;
  UniqueFd wake_;
  std::mutex mutex_;
  std::map<pid_t, OnExit> managed_;
  int launches_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace bulkhead::agent
