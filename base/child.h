// A child process that dies with its owner: killed and reaped by the destructor, and killed by the
// kernel (PR_SET_PDEATHSIG) when the spawning thread is gone.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/sys.h"
#include "base/unique_fd.h"

namespace bulkhead {

struct ChildFd {
  int source;  // in this process; stays open here
  int target;  // in the child
};

struct SpawnOptions {
  std::vector<std::string> argv;                // argv[0] is a path, not searched in PATH,
  std::string program;                          // unless the path is here
  std::optional<std::vector<std::string>> env;  // "NAME=value"; nullopt: this process's own
  std::vector<ChildFd> fds;  // all others are closed; 0-2 not named here: /dev/null
  int death_signal = 9;      // 0: it may outlive the spawning thread
  bool new_session = false;
  int cgroup = -1;  // the folder of a group of cgroup v2 that it begins in; -1: our own
};

class Child {
 public:
  // Returns when execve has succeeded, else its error ("exec PATH: No such file or directory").
  // With a death_signal the calling thread must live as long as the child should: see SpawnThread.
  static Result<Child> Spawn(const SpawnOptions& options);

  Child(Child&& other) noexcept;
  Child& operator=(Child&& other) noexcept;
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child();

  pid_t pid() const { return pid_; }
  int pidfd() const { return pidfd_.get(); }  // readable once it has ended

  Status Signal(int signal) const;
  // nullopt when it still runs and the time ran out. Remembers the answer.
  Result<std::optional<sys::Exit>> Wait(std::optional<std::chrono::milliseconds> timeout);
  // Lets it live on.
  void Detach();

 private:
  Child(pid_t pid, UniqueFd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}
  void KillAndReap();

  pid_t pid_ = -1;
  UniqueFd pidfd_;
  std::optional<sys::Exit> exit_;
};

}  // namespace bulkhead
