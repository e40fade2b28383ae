// bulkhead wait: until a container has ended; prints its exit code.
#include <fcntl.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "base/sys.h"
#include "cli/commands.h"
#include "cli/daemon.h"
#include "cli/pod_folder.h"

namespace bulkhead::cli {
namespace {

Status Wait(Context& context, const std::string& name) {
  const Config config = TRY(context.LoadConfig());
  const PodInfo pod = TRY(FindPod(config, name));
  if (pod.state == PodState::kRunning) {
    // Asked of the daemon: with --rm no record outlives it.
    if (const auto client = TaskClient::Connect(pod.paths.socket(), name)) {
      if (const Result<int> code = (*client)->Wait("")) {
        return PrintOut(fmt::format("{}\n", *code));
      }
    }
  }
  // The daemon holds the lock for as long as it lives.
  {
    const Result<UniqueFd> lock = sys::Open(pod.paths.lock(), O_RDWR);
    if (lock) {
      TRY(sys::LockFile(lock->get(), true));
    }
  }
  const std::optional<ExitRecord> exit = ReadExit(pod.paths);
  if (!exit) {
    return MakeError(ErrorCode::kUnavailable,
                     "container \"{}\" ended without a record (run with --rm, or crashed)", name);
  }
  return PrintOut(fmt::format("{}\n", exit->ShellCode()));
}

}  // namespace

void AddWait(CLI::App& app, GlobalOptions& globals, Action& action) {
  CLI::App* wait =
      app.add_subcommand("wait", "Wait until a container has ended; prints its exit code.");
  auto name = std::make_shared<std::string>();
  wait->add_option("NAME", *name, "The container")->required()->type_name("");
  AddGlobalOptions(*wait, globals);
  wait->callback([&action, name] {
    action = [name](Context& context) {
      const Status waited = Wait(context, *name);
      return waited ? 0 : context.Fail(waited.error());
    };
  });
}

}  // namespace bulkhead::cli
