// The pid namespace that containers of the pod share ("pod" in a spec): made at first use, with an
// init of the agent's own that reaps, and made afresh when that has died, and with it all inside.
#pragma once

#include <sys/types.h>

#include <memory>
#include <mutex>

#include "agent/process.h"
#include "agent/reaper.h"
#include "agent/zygote.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead::agent {

class PodPidNamespace {
 public:
  PodPidNamespace(const Zygote& zygote, Reaper& reaper) : zygote_(zygote), reaper_(reaper) {}
  PodPidNamespace(const PodPidNamespace&) = delete;
  PodPidNamespace& operator=(const PodPidNamespace&) = delete;

  // A pidfd of its init, for setns. `user`: whose it is when it is made here; invalid: the guest's.
  Result<UniqueFd> Enter(const UniqueFd& user);
  // Kills all inside.
  void End();

 private:
  const Zygote& zygote_;
  Reaper& reaper_;
  std::mutex mutex_;  // held while it is made: who else wants it has to wait for it
  std::shared_ptr<Process> init_;
  ino_t user_ = 0;  // the user namespace that it belongs to
};

}  // namespace bulkhead::agent
