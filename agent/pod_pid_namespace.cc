#include "agent/pod_pid_namespace.h"

#include <sched.h>
#include <signal.h>

#include <utility>

#include "agent/birth.h"
#include "base/sys.h"

namespace bulkhead::agent {

Result<UniqueFd> PodPidNamespace::Enter(const UniqueFd& user) {
  const std::scoped_lock lock(mutex_);
  const ino_t asked = user.valid() ? TRY(sys::FStat(user.get())).st_ino : 0;
  if (init_ == nullptr || init_->state() == ProcessState::kStopped) {
    init_.reset();
    LaunchRequest request;
    request.kind = LaunchKind::kPodInit;
    request.clone_flags = CLONE_NEWPID | CLONE_NEWNS;
    TRY(request.JoinUserNamespace(user));
    const auto process = std::make_shared<Process>("");
    auto born = TRY_AS(MakeProcess(zygote_, reaper_, std::move(request), process,
                                   [process](sys::Exit exit) { process->Exited(exit, 0); }),
                       "the pod's pid namespace");
    process->Ready(std::move(born.sync), nullptr);
    init_ = process;
    user_ = asked;
  }
  if (asked != 0 && asked != user_) {
    return MakeError(ErrorCode::kUnimplemented,
                     "the pod's processes began in another user namespace, and /proc of theirs can "
                     "be mounted in that one alone");
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
