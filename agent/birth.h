// The making of one process by the zygote, as the agent sees it.
#pragma once

#include <memory>

#include "agent/launch.h"
#include "agent/process.h"
#include "agent/reaper.h"
#include "agent/zygote.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead::agent {

struct Newborn {
  UniqueFd sync;      // for Process::Ready
  UniqueFd terminal;  // the master, when the process has one
};

// Returns when the process has only its command left to do. `on_exit` has to call process->Exited.
// What was born is dead again when it fails. Takes the request's fds.
Result<Newborn> MakeProcess(const Zygote& zygote, Reaper& reaper, LaunchRequest request,
                            const std::shared_ptr<Process>& process, const Reaper::OnExit& on_exit);

}  // namespace bulkhead::agent
