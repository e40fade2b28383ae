// The commands of `bulkhead`: each adds itself to the command line and leaves what to do.
#pragma once

#include <functional>

#include "cli/globals.h"

namespace CLI {
class App;
}

namespace bulkhead::cli {

// What the command line chose: returns the exit code.
using Action = std::function<int(Context&)>;

void AddRun(CLI::App& app, GlobalOptions& globals, Action& action);
void AddExec(CLI::App& app, GlobalOptions& globals, Action& action);
void AddPs(CLI::App& app, GlobalOptions& globals, Action& action);
void AddKill(CLI::App& app, GlobalOptions& globals, Action& action);
void AddLogs(CLI::App& app, GlobalOptions& globals, Action& action);
void AddList(CLI::App& app, GlobalOptions& globals, Action& action);
void AddRm(CLI::App& app, GlobalOptions& globals, Action& action);
void AddWait(CLI::App& app, GlobalOptions& globals, Action& action);
void AddInspect(CLI::App& app, GlobalOptions& globals, Action& action);
void AddCheck(CLI::App& app, GlobalOptions& globals, Action& action);

// Those of an OCI runtime, as engines call them.
void AddCreate(CLI::App& app, GlobalOptions& globals, Action& action);
void AddBundleRun(CLI::App& app, GlobalOptions& globals, Action& action);
void AddStart(CLI::App& app, GlobalOptions& globals, Action& action);
void AddState(CLI::App& app, GlobalOptions& globals, Action& action);
void AddDelete(CLI::App& app, GlobalOptions& globals, Action& action);
void AddPauseResume(CLI::App& app, GlobalOptions& globals, Action& action);
void AddUpdate(CLI::App& app, GlobalOptions& globals, Action& action);
void AddEvents(CLI::App& app, GlobalOptions& globals, Action& action);
void AddSpec(CLI::App& app, GlobalOptions& globals, Action& action);
void AddFeatures(CLI::App& app, GlobalOptions& globals, Action& action);
void AddCheckpointRestore(CLI::App& app, GlobalOptions& globals, Action& action);

}  // namespace bulkhead::cli
