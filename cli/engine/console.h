// A pseudoterminal on the host for a process of the guest, which has one there too: the engine gets
// one end over its console socket, the relay of the pod's daemon the other.
#pragma once

#include <optional>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "oci/spec.h"

namespace bulkhead::cli {

struct Pty {
  UniqueFd master;
  UniqueFd slave;  // raw: the terminal in the guest does what a terminal does
};
Result<Pty> OpenPty(const std::optional<oci::ConsoleSize>& size);

// As runc does.
Status SendConsole(const std::string& socket, const Pty& pty);

}  // namespace bulkhead::cli
