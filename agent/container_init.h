// What a new process of a container does between clone and exec, step by step; and the init of the
// pod's pid namespace, which execs nothing.
#pragma once

#include "agent/launch.h"

namespace bulkhead::agent {

[[noreturn]] void RunContainerInit(LaunchRequest& request);

// The file that `command` means in the calling process's root: itself when it has a slash, else
// looked up in PATH of `env`. Errors as a shell's 127 and 126.
Result<std::string> FindCommand(const std::string& command, const std::vector<std::string>& env);

}  // namespace bulkhead::agent
