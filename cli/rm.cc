// bulkhead rm: forget containers that have ended.
#include <signal.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <thread>

#include "cli/commands.h"
#include "cli/daemon.h"
#include "cli/pod_folder.h"

namespace bulkhead::cli {
namespace {

struct RmOptions {
  bool force = false;
  std::vector<std::string> names;
};

// A daemon lets go of the lock when all is given back, a while after its container's end.
Status AwaitEnd(const PodInfo& pod) {
  for (int i = 0; i < 400 && IsLocked(pod.paths); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  if (IsLocked(pod.paths)) {
    return MakeError(ErrorCode::kDeadlineExceeded, "container \"{}\" does not end", pod.paths.name);
  }
  return {};
}

Status End(const PodInfo& pod) {
  const auto client = TRY(TaskClient::Connect(pod.paths.socket(), pod.paths.name));
  (void)client->Kill("", SIGKILL, true);
  (void)client->Shutdown();
  return AwaitEnd(pod);
}

Status RemoveOne(const Config& config, const std::string& name, bool force) {
  const Result<PodInfo> pod = FindPod(config, name);
  if (!pod && force && pod.error().code() == ErrorCode::kNotFound) {
    return {};
  }
  if (!pod) {
    return tl::unexpected(pod.error());
  }
  if (pod->state == PodState::kRunning && ReadExit(pod->paths)) {
    TRY(AwaitEnd(*pod));
  } else if (pod->state == PodState::kRunning) {
    if (!force) {
      return MakeError(ErrorCode::kFailedPrecondition,
                       "container \"{}\" is running: bulkhead kill it first, or rm -f", name);
    }
    TRY(End(*pod));
  }
  return RemovePod(pod->paths);
}

int RmCommand(Context& context, const RmOptions& options) {
  const Result<Config> config = context.LoadConfig();
  if (!config) {
    return context.Fail(config.error());
  }
  int code = 0;
  for (const std::string& name : options.names) {
    if (const Status removed = RemoveOne(*config, name, options.force); !removed) {
      context.Complain(removed.error().message());
      code = 1;
    }
  }
  return code;
}

}  // namespace

void AddRm(CLI::App& app, GlobalOptions& globals, Action& action) {
  CLI::App* rm = app.add_subcommand("rm", "Remove the log and record of containers.");
  auto options = std::make_shared<RmOptions>();
  rm->add_flag("-f,--force", options->force, "End those that run; do not mind a missing one");
  rm->add_option("NAME", options->names, "Containers")->required()->type_name("");
  AddGlobalOptions(*rm, globals);
  rm->callback([&action, options] {
    action = [options](Context& context) { return RmCommand(context, *options); };
  });
}

}  // namespace bulkhead::cli
