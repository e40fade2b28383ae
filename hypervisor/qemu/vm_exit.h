// Why a VM ended, of all that was seen. Pure.
#pragma once

#include <string>

#include "base/sys.h"
#include "hypervisor/hypervisor.h"
#include "hypervisor/qemu/qmp_codec.h"

namespace bulkhead::hypervisor::qemu {

struct ExitFacts {
  std::string panic;       // the guest's message
  std::string daemon;      // a helper that died first, and how
  bool killed = false;     // by us, as asked
  QmpShutdown shutdown;    // what QEMU said last
  sys::Exit exit;          // of QEMU
  std::string last_words;  // QEMU's stderr
};

VmExit DescribeExit(const ExitFacts& facts);

// "was killed by signal 9 (Killed)", "ended with code 1".
std::string DescribeEnd(const sys::Exit& exit);

}  // namespace bulkhead::hypervisor::qemu
