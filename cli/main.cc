// bulkhead: containers, each in a virtual machine of its own.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "base/sys.h"
#include "cli/commands.h"
#include "cli/engine/arguments.h"

namespace bulkhead::cli {
namespace {

// An fd 0-2 that is closed would be taken by the next file opened, and written to as our output.
void OpenStandardFds(GlobalOptions& options) {
  for (int fd = 0; fd <= 2; ++fd) {
    options.was_open.at(static_cast<size_t>(fd)) = ::fcntl(fd, F_GETFD) != -1;
    if (!options.was_open.at(static_cast<size_t>(fd))) {
      (void)::open("/dev/null", O_RDWR);  // the lowest free fd: this one
    }
  }
}

int Main(int argc, char** argv) {
  GlobalOptions globals;
  OpenStandardFds(globals);
  (void)::signal(SIGPIPE, SIG_IGN);
  CLI::App app("bulkhead: containers, each in a virtual machine of its own", "bulkhead");
  app.set_help_flag("--help", "Show this help; after a command: that command's");
  // Engines read the first line, and look for the second.
  app.set_version_flag("--version,-v", "bulkhead version " BULKHEAD_VERSION "\nspec: 1.2.0",
                       "Show the version");
  app.require_subcommand(1);
  app.failure_message([](const CLI::App*, const CLI::Error& error) {
    return std::string("bulkhead: ") + error.what() + "; see bulkhead --help\n";
  });
  AddGlobalOptions(app, globals);
  Action action;
  for (const auto add : {AddRun,         AddExec,     AddPs,
                         AddKill,        AddLogs,     AddList,
                         AddRm,          AddWait,     AddInspect,
                         AddCheck,       AddCreate,   AddBundleRun,
                         AddStart,       AddState,    AddDelete,
                         AddPauseResume, AddUpdate,   AddEvents,
                         AddSpec,        AddFeatures, AddCheckpointRestore}) {
    add(app, globals, action);
  }
  app.add_subcommand("version", "Show the version")->callback([&action] {
    action = [](Context& context) {
      const Status printed = PrintOut("bulkhead " BULKHEAD_VERSION "\n");
      return printed ? 0 : context.Fail(printed.error());
    };
  });
  std::vector<std::string> arguments =
      ChooseRun({argv + 1, argv + argc}, [](const std::string& path) { return sys::Exists(path); });
  const size_t command = CommandAt(arguments);
  const bool for_engine = command < arguments.size() && IsEngineCommand(arguments[command]);
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::ParseError& error) {
    const int failed = for_engine ? 1 : kExitOurs;
    return app.exit(error) == 0 ? 0 : failed;
  }
  Context context(globals);
  return action(context);
}

}  // namespace
}  // namespace bulkhead::cli

// _exit: threads that copy stdio may still wait for a terminal; nothing is left to flush.
int main(int argc, char** argv) {
  const int code = bulkhead::cli::Main(argc, argv);
  std::cout.flush();
  ::_exit(code);
}
