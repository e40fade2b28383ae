#include "agent/process_state.h"

#include <array>

namespace bulkhead::agent {
namespace {

struct Row {
  ProcessState from;
  ProcessEvent event;
  ProcessState to;
};

using enum ProcessState;

constexpr std::array kTable{
    Row{kCreating, ProcessEvent::kReady, kCreated},
    Row{kCreating, ProcessEvent::kExit, kStopped},
    Row{kCreated, ProcessEvent::kStart, kStarting},
    Row{kCreated, ProcessEvent::kExit, kStopped},
    Row{kStarting, ProcessEvent::kStarted, kRunning},
    Row{kStarting, ProcessEvent::kExit, kStopped},
    Row{kRunning, ProcessEvent::kExit, kStopped},
    // News that came by another way and late.
    Row{kStopped, ProcessEvent::kReady, kStopped},
    Row{kStopped, ProcessEvent::kStarted, kStopped},
    Row{kStopped, ProcessEvent::kDelete, kDeleted},
};

const char* EventName(ProcessEvent event) {
  switch (event) {
    case ProcessEvent::kReady:
      return "be ready";
    case ProcessEvent::kStart:
      return "start";
    case ProcessEvent::kStarted:
      return "run";
    case ProcessEvent::kExit:
      return "end";
    case ProcessEvent::kDelete:
      return "delete";
  }
  return "";
}

}  // namespace

const char* StateName(ProcessState state) {
  constexpr std::array kNames{"being created", "created", "starting",
                              "running",       "stopped", "deleted"};
  return kNames[static_cast<size_t>(state)];
}

Result<ProcessState> NextState(ProcessState state, ProcessEvent event) {
  for (const Row& row : kTable) {
    if (row.from == state && row.event == event) {
      return row.to;
    }
  }
  return MakeError(ErrorCode::kFailedPrecondition, "cannot {} a process that is {}",
                   EventName(event), StateName(state));
}

}  // namespace bulkhead::agent
