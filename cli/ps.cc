// bulkhead ps: the processes of a container.
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/daemon.h"
#include "cli/engine/container.h"
#include "cli/engine/exec.h"
#include "cli/pod_folder.h"

namespace bulkhead::cli {
namespace {

using Json = nlohmann::json;

template <typename T>
T Field(const Json& json, const char* key, T fallback) {
  try {
    return json.value(key, fallback);
  } catch (const Json::exception&) {
    return fallback;
  }
}

std::string TableLine(const Json& process) {
  const auto seconds = Field(process, "cpu_ms", int64_t{0}) / 1000;
  return fmt::format("{:>7} {:>7} {:<4} {:>9} {:>3}:{:02} {}\n",
                     Field(process, "container_pid", int64_t{0}), Field(process, "uid", int64_t{0}),
                     OneLine(Field(process, "state", std::string("?"))),
                     Field(process, "rss_bytes", int64_t{0}) >> 10U, seconds / 60, seconds % 60,
                     OneLine(Field(process, "command", std::string())));
}

Result<Json> ProcessesOf(TaskClient& client) {
  Json processes = Json::array();
  for (const ProcessEntry& entry : TRY(client.Pids())) {
    Json json = Json::parse(entry.json, nullptr, false);  // the guest is not trusted
    if (json.is_object()) {
      processes.push_back(std::move(json));
    }
  }
  return processes;
}

Status PrintTable(const Json& processes) {
  std::string table = fmt::format("{:>7} {:>7} {:<4} {:>9} {:>6} {}\n", "PID", "USER", "STAT",
                                  "RSS_KB", "TIME", "COMMAND");
  for (const Json& process : processes) {
    table += TableLine(process);
  }
  return PrintOut(table);
}

Status Ps(Context& context, const std::string& name, const std::string& format) {
  const Config config = TRY(context.LoadConfig());
  const PodInfo pod = TRY(FindPod(config, name));
  if (pod.state != PodState::kRunning) {
    return MakeError(ErrorCode::kFailedPrecondition, "container \"{}\" is not running", name);
  }
  const auto client = TRY(TaskClient::Connect(pod.paths.socket(), name));
  const Json processes = TRY(ProcessesOf(*client));
  if (format == "json") {
    return PrintOut(processes.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  }
  return PrintTable(processes);
}

// Engines look the pids of the JSON form up on the host: they are those of the stand-ins.
Status EnginePs(Context& context, const std::string& id, const std::string& format) {
  const Engine engine = TRY(Engine::Open(context));
  const ContainerRecord record = TRY(engine.root().Load(id));
  if (TRY(StateOf(engine, record)).status == "stopped") {
    return MakeError(ErrorCode::kFailedPrecondition, "container not running: \"{}\"", id);
  }
  if (format == "json") {
    return PrintOut(Json(TRY(StandInPids(record))).dump() + "\n");
  }
  return PrintTable(TRY(ProcessesOf(*TRY(engine.Daemon(record)))));
}

}  // namespace

void AddPs(CLI::App& app, GlobalOptions& globals, Action& action) {
  CLI::App* ps = app.add_subcommand("ps", "Show the processes of a container.");
  auto name = std::make_shared<std::string>();
  auto format = std::make_shared<std::string>("table");
  ps->add_option("NAME", *name, "The container")->required()->type_name("");
  ps->add_option("-f,--format", *format, "table or json")
      ->type_name("FORMAT")
      ->check(CLI::IsMember({"table", "json"}));
  // Those of ps(1), which runc passes on.
  ps->prefix_command();
  AddGlobalOptions(*ps, globals);
  ps->callback([&action, name, format] {
    action = [name, format](Context& context) {
      if (IsEngineContainer(context, *name)) {
        const Status shown = EnginePs(context, *name, *format);
        return shown ? 0 : context.FailEngine(shown.error());
      }
      const Status shown = Ps(context, *name, *format);
      return shown ? 0 : context.Fail(shown.error());
    };
  });
}

}  // namespace bulkhead::cli
