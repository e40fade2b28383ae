// Limits of a process that only the guest's root may raise: its children have them, too.
#pragma once

#include "base/result.h"
#include "oci/spec.h"

namespace bulkhead::agent {

// oomScoreAdj and rlimits, for the calling process; all but the number of processes.
Status SetLimits(const oci::Process& process);
// That one counts those of the process's user, and so is for the process itself, at last.
Status SetProcessLimit(const oci::Process& process);

Status SetOomScore(int score);
// Of an init of the agent's own: what it holds together is more than it takes.
inline constexpr int kPodInitOomScore = -999;

}  // namespace bulkhead::agent
