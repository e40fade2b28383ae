// The init of a container that asked for one (`bulkhead run --init`): starts the command, passes
// signals on to it, reaps what is orphaned, ends as the command does.
#pragma once

namespace bulkhead::agent {

// argv: the command, null-terminated. Returns the exit code: 128 + n for a signal, 126 or 127 when
// the command cannot be executed.
int RunMiniInit(char** argv);

// As the first process of a pid namespace that has no command of its own: lets go of every fd and
// reaps.
[[noreturn]] void ReapForEver();

}  // namespace bulkhead::agent
