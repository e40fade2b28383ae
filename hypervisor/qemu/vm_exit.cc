#include "hypervisor/qemu/vm_exit.h"

#include <string.h>

namespace bulkhead::hypervisor::qemu {

std::string DescribeEnd(const sys::Exit& exit) {
  if (exit.signal != 0) {
    const char* name = ::sigdescr_np(exit.signal);
    return fmt::format("was killed by signal {} ({})", exit.signal,
                       name != nullptr ? name : "unknown");
  }
  return fmt::format("ended with code {}", exit.code);
}

VmExit DescribeExit(const ExitFacts& facts) {
  if (!facts.panic.empty()) {
    return {"the guest kernel panicked: " + facts.panic, false};
  }
  if (!facts.daemon.empty()) {
    return {facts.daemon, false};
  }
  if (facts.killed) {
    return {"the VM was killed on request", false};
  }
  const bool clean = facts.exit.signal == 0 && facts.exit.code == 0;
  if (clean && facts.shutdown.by_guest) {
    if (facts.shutdown.reason == "guest-shutdown") {
      return {"the guest powered off", true};
    }
    return {fmt::format("the guest reset itself ({})", facts.shutdown.reason), false};
  }
  std::string reason = "QEMU " + DescribeEnd(facts.exit);
  if (!facts.last_words.empty()) {
    reason += ": " + facts.last_words;
  } else if (!facts.shutdown.reason.empty()) {
    reason += " (" + facts.shutdown.reason + ")";
  }
  return {reason, false};
}

}  // namespace bulkhead::hypervisor::qemu
