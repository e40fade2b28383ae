#include "agent/pod_pid_namespace.h"

#include <sched.h>
#include <signal.h>

#include <utility>

#include "agent/birth.h"

namespace bulkhead::agent {

Result<UniqueFd> PodPidNamespace::Enter(const UniqueFd& user) {
  const std::scoped_lock lock(mutex_);
  if (init_ == nullptr || init_->state() == ProcessState::kStopped) {
    init_.reset();
    LaunchRequest request;
    request.kind = LaunchKind::kPodInit;
    request.clone_flags = CLONE_NEWPID | CLONE_NEWNS;
    if (user.valid()) {
      request.join.push_back(TRY(sys::Dup(user.get())));
      request.join_types.push_back(CLONE_NEWUSER);
      request.user_namespace = true;
    }
    const auto process = std::make_shared<Process>("");
    auto born = TRY_AS(MakeProcess(zygote_, reaper_, std::move(request), process,
                                   [process](sys::Exit exit) { process->Exited(exit, 0); }),
                       "the pod's pid namespace");
    process->Ready(std::move(born.sync), nullptr);
    init_ = process;
  }
  return init_->Pidfd();
}

void PodPidNamespace::End() {
  const std::scoped_lock lock(mutex_);
  if (init_ != nullptr) {
    static_cast<void>(init_->Signal(SIGKILL));
  }
  init_.reset();
}

}  // namespace bulkhead::agent
