#include "cli/engine/hooks.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>

#include <thread>

#include "base/child.h"
#include "base/sys.h"
#include "oci/hook_words.h"

namespace bulkhead::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::hours kForEver(24);

Result<Child> Start(const oci::Hook& hook, int in, int err, const std::string& netns) {
  SpawnOptions spawn;
  spawn.argv = hook.args.empty() ? std::vector<std::string>{hook.path} : hook.args;
  spawn.program = hook.path;
  if (!hook.env.empty()) {
    spawn.env = hook.env;
  }
  spawn.fds = {{in, 0}, {err, 1}, {err, 2}};
  spawn.death_signal = 0;  // it is killed by its owner; threads come and go
  if (netns.empty()) {
    return Child::Spawn(spawn);
  }
  Result<Child> child = MakeError(ErrorCode::kInternal, "not started");
  std::thread([&] {
    const auto fd = sys::Open(netns, O_RDONLY);
    const Status entered = fd ? sys::SetNs(fd->get(), CLONE_NEWNET) : tl::unexpected(fd.error());
    child = entered ? Child::Spawn(spawn) : tl::unexpected(entered.error());
  }).join();
  return child;
}

Status RunHook(const oci::Hook& hook, const std::string& state, const std::string& netns) {
  // A file: a hook need not read what it is given.
  const UniqueFd in = TRY(sys::MemFd("state"));
  TRY(sys::WriteAllAt(in.get(), std::as_bytes(std::span(state)), 0));
  const UniqueFd err = TRY(sys::MemFd("stderr"));
  Child child = TRY(Start(hook, in.get(), err.get(), netns));
  const auto limit =
      hook.timeout ? std::chrono::seconds(*hook.timeout) : std::chrono::seconds(kForEver);
  const auto exit = TRY(child.Wait(limit));
  if (!exit) {
    return MakeError(ErrorCode::kDeadlineExceeded, "hook {}: no end within its timeout of {} s",
                     hook.path, *hook.timeout);
  }
  if (exit->ShellCode() == 0) {
    return {};
  }
  return MakeError(ErrorCode::kFailedPrecondition, "hook {}: exit status {}, stdout+stderr: {}",
                   hook.path, exit->ShellCode(), oci::HookWords(err));
}

}  // namespace

std::string StateJson(const ContainerRecord& record, const std::string& status, pid_t pid) {
  return oci::StateToJson(
      {record.version, record.id, status, pid, record.bundle, record.annotations});
}

Status RunHooks(const std::vector<oci::Hook>& hooks, const std::string& kind,
                const std::string& state, const std::string& netns) {
  for (size_t i = 0; i < hooks.size(); ++i) {
    TRY_AS(RunHook(hooks[i], state, netns), "hooks.{}[{}]", kind, i);
  }
  return {};
}

}  // namespace bulkhead::cli
