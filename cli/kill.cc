// bulkhead kill: a signal to containers.
#include <CLI/CLI.hpp>
#include <memory>

#include "cli/commands.h"
#include "cli/daemon.h"
#include "cli/engine/container.h"
#include "cli/engine/exec.h"
#include "cli/pod_folder.h"
#include "cli/run_options.h"

namespace bulkhead::cli {
namespace {

struct KillOptions {
  std::string signal;
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

// As runc has it: `kill [--all] ID [SIGNAL]`.
int EngineKill(Context& context, const KillOptions& options) {
  std::string text = options.signal;
  if (options.names.size() == 2) {
    text = options.names[1];
  } else if (options.names.size() > 2) {
    context.Complain("kill: expected ID and SIGNAL");
    return 1;
  }
  const auto kill = [&]() -> Status {
    const Engine engine = TRY(Engine::Open(context));
    const int signal = TRY(ParseSignal(text.empty() ? "TERM" : text));
    return KillContainer(engine, options.names[0], signal, options.all);
  };
  const Status killed = kill();
  return killed ? 0 : context.FailEngine(killed.error());
}

int KillCommand(Context& context, const KillOptions& options) {
  if (IsEngineContainer(context, options.names[0])) {
    return EngineKill(context, options);
  }
  const Result<Config> config = context.LoadConfig();
  if (!config) {
    return context.Fail(config.error());
  }
  const Result<int> signal = ParseSignal(options.signal.empty() ? "KILL" : options.signal);
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
  kill->add_option("-s,--signal", options->signal,
                   "The signal, by name or number (default: KILL; of engines' containers: TERM)")
      ->type_name("SIGNAL");
  kill->add_flag("-a,--all", options->all, "To every process of the container");
  kill->add_option("NAME", options->names, "Containers; or one of an engine and a signal")
      ->required()
      ->type_name("");
  AddGlobalOptions(*kill, globals);
  kill->callback([&action, options] {
    action = [options](Context& context) { return KillCommand(context, *options); };
  });
}

}  // namespace bulkhead::cli
