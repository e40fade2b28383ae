// The life of a process, as a pure function.
#pragma once

#include "base/result.h"

namespace bulkhead::agent {

enum class ProcessState {
  kCreating,  // the zygote makes it; it sets itself up
  kCreated,   // it waits for "go"
  kStarting,  // it was told to exec
  kRunning,   // execve has succeeded
  kStopped,   // it has ended; its status is kept
  kDeleted,   // forgotten
};

enum class ProcessEvent {
  kReady,    // it reports that only exec is left
  kStart,    // StartProcess
  kStarted,  // execve has succeeded
  kExit,     // it has ended
  kDelete,   // DeleteProcess
};

// The state after the event, or kFailedPrecondition in words for the user.
Result<ProcessState> NextState(ProcessState state, ProcessEvent event);

const char* StateName(ProcessState state);

}  // namespace bulkhead::agent
