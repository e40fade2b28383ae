// hooks.startContainer: programs of the container that run before its command does.
#include <fcntl.h>
#include <signal.h>

#include <chrono>
#include <future>

#include "agent/birth.h"
#include "agent/container.h"
#include "agent/process_list.h"
#include "oci/hook_words.h"

namespace bulkhead::agent {
namespace {

// Of all together: a little less than the host waits for a start.
constexpr std::chrono::seconds kTimeout(100);

}  // namespace

Status Container::RunStartHooks() {
  const auto& hooks = spec_.hooks.start_container;
  if (hooks.empty()) {
    return {};
  }
  const pid_t pid = TRY(ReadProcessInfo(init_->pid())).container_pid;
  const std::string state =
      oci::StateToJson({spec_.version, id_, "created", pid, bundle_, spec_.annotations});
  const auto end = std::chrono::steady_clock::now() + kTimeout;
  for (size_t i = 0; i < hooks.size(); ++i) {
    TRY_AS(RunStartHook(hooks[i], state, end), "hooks.startContainer[{}]: {}", i, hooks[i].path);
  }
  return {};
}

Status Container::RunStartHook(const oci::Hook& hook, const std::string& state,
                               std::chrono::steady_clock::time_point end) {
  oci::Process command = *spec_.process;
  command.args = hook.args.empty() ? std::vector<std::string>{hook.path} : hook.args;
  command.args[0] = hook.path;
  command.env = hook.env;
  command.cwd = "/";
  command.terminal = false;
  command.exec_cpu_affinity.reset();
  LaunchRequest request = TRY(ExecRequest(std::move(command)));
  TRY(Confine(request));
  request.stdin_fd = TRY(sys::MemFd("state"));
  TRY(sys::WriteAllAt(request.stdin_fd.get(), std::as_bytes(std::span(state)), 0));
  const UniqueFd words = TRY(sys::MemFd("words"));
  request.stdout_fd = TRY(sys::Dup(words.get()));
  request.stderr_fd = TRY(sys::Dup(words.get()));

  const auto process = std::make_shared<Process>("");
  const auto ended = std::make_shared<std::promise<sys::Exit>>();
  auto exit = ended->get_future();
  Newborn born = TRY(MakeProcess(workshop_.zygote, workshop_.reaper, std::move(request), process,
                                 [process, ended](sys::Exit status) {
                                   process->Exited(status, 0);
                                   ended->set_value(status);
                                 }));
  process->Ready(std::move(born.sync), nullptr);
  TRY(process->Start());
  const auto own_end =
      std::chrono::steady_clock::now() + std::chrono::seconds(hook.timeout.value_or(0));
  if (exit.wait_until(hook.timeout ? std::min(end, own_end) : end) != std::future_status::ready) {
    static_cast<void>(process->Signal(SIGKILL));
    return hook.timeout && own_end < end
               ? MakeError(ErrorCode::kDeadlineExceeded, "no end within its timeout of {} s",
                           *hook.timeout)
               : MakeError(ErrorCode::kDeadlineExceeded, "no end within {} s of the start",
                           kTimeout.count());
  }
  const int code = exit.get().ShellCode();
  return code == 0 ? Status()
                   : MakeError(ErrorCode::kFailedPrecondition, "exit status {}, stdout+stderr: {}",
                               code, oci::HookWords(words));
}

}  // namespace bulkhead::agent
