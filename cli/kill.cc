// bulkhead kill: a signal to containers.
#include <CLI/CLI.hpp>
#include <memory>

#include "cli/commands.h"
#include "cli/daemon.h"
#include "cli/pod_folder.h"
#include "cli/run_options.h"

namespace bulkhead::cli {
namespace {

struct KillOptions {
  std::string signal = "KILL";
  bool all = false;
  std::vector<std::string> names;
};

Status KillOne(const Config& config, const std::string& name, int signal, bool all) {
  const PodInfo pod = TRY(FindPod(config, name));
  if (pod.state != PodState::kRunning) {
    return MakeError(ErrorCode::kFailedPrecondition, "container \"{}\" is not running", name);
  }
  const auto client = TRY(TaskClient::Connect(pod.paths.socket(), name));
  return client->Kill("", signal, all);
}

int KillCommand(Context& context, const KillOptions& options) {
  const Result<Config> config = context.LoadConfig();
  if (!config) {
    return context.Fail(config.error());
  }
  const Result<int> signal = ParseSignal(options.signal);
  if (!signal) {
    return context.Fail(signal.error());
  }
  int code = 0;
  for (const std::string& name : options.names) {
    if (const Status sent = KillOne(*config, name, *signal, options.all); !sent) {
      context.Complain(sent.error().message());
      code = 1;
    }
  }
  return code;
}

}  // namespace

void AddKill(CLI::App& app, GlobalOptions& globals, Action& action) {
  CLI::App* kill = app.add_subcommand("kill", "Send a signal to the first process of containers.");
  auto options = std::make_shared<KillOptions>();
  kill->add_option("-s,--signal", options->signal, "The signal, by name or number (default: KILL)")
      ->type_name("SIGNAL");
  kill->add_flag("--all", options->all, "To every process of the container");
  kill->add_option("NAME", options->names, "Containers")->required()->type_name("");
  AddGlobalOptions(*kill, globals);
  kill->callback([&action, options] {
    action = [options](Context& context) { return KillCommand(context, *options); };
  });
}

}  // namespace bulkhead::cli
