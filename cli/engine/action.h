// What the commands of an OCI runtime have in common.
#pragma once

#include <functional>
#include <utility>

#include "cli/commands.h"
#include "cli/engine/container.h"

namespace bulkhead::cli {

inline Action EngineAction(std::function<Status(const Engine&)> work) {
  return [work = std::move(work)](Context& context) {
    const auto engine = Engine::Open(context);
    const Status done = engine ? work(*engine) : tl::unexpected(engine.error());
    return done ? 0 : context.FailEngine(done.error());
  };
}

}  // namespace bulkhead::cli
