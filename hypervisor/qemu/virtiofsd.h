// The daemon that serves one shared folder over virtio-fs.
#pragma once

#include <string>
#include <vector>

#include "base/child.h"
#include "base/last_words.h"
#include "base/result.h"
#include "base/spawn_thread.h"
#include "base/unique_fd.h"

namespace bulkhead::hypervisor::qemu {

// Two programs bear the name: QEMU's own in C (before QEMU 8) and its successor in Rust.
enum class VirtiofsdFlavor { kC, kRust };

// Of what `virtiofsd --help` prints.
VirtiofsdFlavor FlavorFromHelp(const std::string& help);
// Asks the program; about as long as a process takes to start.
Result<VirtiofsdFlavor> ProbeVirtiofsd(const std::string& program, SpawnThread& spawner);

std::vector<std::string> VirtiofsdArguments(const std::string& program, VirtiofsdFlavor flavor,
                                            const std::string& path, int listening_fd);

struct Virtiofsd {
  std::string path;  // the folder it serves
  Child child;
  LastWords errors;
  UniqueFd connection;  // for QEMU

  // `socket_path` is for a moment the name of its socket. It need not be ready to be connected to:
  // QEMU waits for its first answer.
  static Result<Virtiofsd> Start(const std::string& program, VirtiofsdFlavor flavor,
                                 const std::string& path, const std::string& socket_path,
                                 SpawnThread& spawner);
};

}  // namespace bulkhead::hypervisor::qemu
