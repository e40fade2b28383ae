#include "agent/process_state.h"

#include <gtest/gtest.h>

#include <array>

namespace bulkhead::agent {
namespace {

// Rows: states in order; columns: ready, start, started, exit, delete. '-': refused.
TEST(ProcessState, EveryStateAndEvent) {
  using enum ProcessState;
  constexpr std::array kStates{kCreating, kCreated, kStarting, kRunning, kStopped, kDeleted};
  constexpr std::array kEvents{ProcessEvent::kReady, ProcessEvent::kStart, ProcessEvent::kStarted,
                               ProcessEvent::kExit, ProcessEvent::kDelete};
  constexpr std::array<std::array<int, 5>, 6> kNext{{
      {1, -1, -1, 4, -1},
      {-1, 2, -1, 4, -1},
      {-1, -1, 3, 4, -1},
      {-1, -1, -1, 4, -1},
      {4, -1, 4, -1, 5},
      {-1, -1, -1, -1, -1},
  }};
  for (size_t s = 0; s < kStates.size(); ++s) {
    for (size_t e = 0; e < kEvents.size(); ++e) {
      const auto next = NextState(kStates[s], kEvents[e]);
      const int expected = kNext[s][e];
      EXPECT_EQ(next.has_value(), expected >= 0) << s << " " << e;
      if (next && expected >= 0) {
        EXPECT_EQ(*next, kStates[static_cast<size_t>(expected)]);
      } else if (!next) {
        EXPECT_EQ(next.error().code(), ErrorCode::kFailedPrecondition);
      }
    }
  }
}

}  // namespace
}  // namespace bulkhead::agent
