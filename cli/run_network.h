// The network of `bulkhead run`: which there can be, and the files of /etc that speak of it.
#pragma once

#include <string>

#include "base/result.h"
#include "cli/globals.h"
#include "cli/run_options.h"
#include "shim/network/host_resolver.h"

namespace bulkhead::cli {

// Whether QEMU was built with a user-mode network of its own.
Result<bool> QemuHasUserNetwork(const std::string& qemu);

// True: a user-mode network; false: none. What was asked for and cannot be had is an error; what
// was not asked for, a warning.
Result<bool> ChooseNetwork(Context& context, const Config& config, const RunOptions& options);

// `network`: there is one.
std::string HostsFile(const RunOptions& options, const std::string& hostname, bool network);
std::string ResolvConfFile(const RunOptions& options, bool network, const shim::HostResolver& host);

}  // namespace bulkhead::cli
