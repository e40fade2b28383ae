// How a process ended, in the messages that tell containerd of it.
#pragma once

#include <cstdint>

#include "shim/agent_client.h"

namespace bulkhead::shim {

// `Message` has exit_status and exited_at, as answers of the Task API and events do.
template <typename Message>
void FillExit(Message& message, const ProcessExit& exit) {
  constexpr int64_t kNanoseconds = 1'000'000'000;
  message.set_exit_status(static_cast<uint32_t>(exit.code));
  message.mutable_exited_at()->set_seconds(exit.exited_at_ns / kNanoseconds);
  message.mutable_exited_at()->set_nanos(static_cast<int32_t>(exit.exited_at_ns % kNanoseconds));
}

}  // namespace bulkhead::shim
