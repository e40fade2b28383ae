// Work in another network namespace, done by a thread that goes there and ends: what it opens there
// stays there, wherever it is used.
#pragma once

#include <sched.h>

#include <optional>
#include <system_error>
#include <thread>
#include <type_traits>

#include "base/result.h"
#include "base/sys.h"

namespace bulkhead::shim {

// Waits for it. An error: there was no thread.
template <typename Work>
Status RunInThread(const Work& work) {
  try {
    std::thread(work).join();
  } catch (const std::system_error& error) {
    return MakeErrno(error.code().value(), "a thread for the network namespace");
  }
  return {};
}

// Whether it is the calling thread's: the host's, whose interfaces stay where they are.
inline Result<bool> IsOwnNetns(int netns) {
  const struct stat theirs = TRY(sys::FStat(netns));
  const struct stat ours = TRY(sys::Stat("/proc/thread-self/ns/net"));
  return theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino;
}

// `work` returns a Result or a Status.
template <typename Work>
auto InNetns(int netns, const Work& work) -> std::invoke_result_t<Work> {
  std::optional<std::invoke_result_t<Work>> result;
  TRY(RunInThread([&] {
    if (const Status entered = sys::SetNs(netns, CLONE_NEWNET); !entered) {
      result = tl::unexpected(entered.error());
      return;
    }
    result = work();
  }));
  return std::move(*result);
}

}  // namespace bulkhead::shim
