// bulkhead update: other limits for a container that runs.
#include "cli/engine/update.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/sys.h"
#include "cli/commands.h"
#include "cli/engine/action.h"
#include "oci/spec.h"

namespace bulkhead::cli {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxBytes = 1U << 20U;

Status SetSize(Json& json, const char* group, const char* name, const std::string& text) {
  if (text == "-1") {
    json[group][name] = -1;
  } else if (!text.empty()) {
    json[group][name] = TRY(ParseSize(text));
  }
  return {};
}

template <typename T>
void SetNumber(Json& json, const char* group, const char* name, const std::optional<T>& value) {
  if (value) {
    json[group][name] = *value;
  }
}

Status Update(const Engine& engine, const std::string& id, const UpdateOptions& options) {
  const ContainerRecord record = TRY(engine.root().Load(id));
  if (TRY(StateOf(engine, record)).status == "stopped") {
    return MakeError(ErrorCode::kFailedPrecondition, "container not running: \"{}\"", id);
  }
  const std::string resources = TRY(ResourcesOf(options));
  std::vector<std::string> warnings;
  TRY(oci::ParseResources(resources, &warnings));
  engine.context().WarnAll("linux.resources", warnings);
  return TRY(engine.Daemon(record))->Update(resources);
}

}  // namespace

Result<std::string> ResourcesOf(const UpdateOptions& options) {
  if (options.resources == "-") {
    return sys::ReadFd(STDIN_FILENO, kMaxBytes, "standard input");
  }
  if (!options.resources.empty()) {
    return sys::ReadFile(options.resources, kMaxBytes);
  }
  if (!options.l3_cache_schema.empty() || !options.mem_bw_schema.empty()) {
    return MakeError(ErrorCode::kUnimplemented,
                     "--l3-cache-schema, --mem-bw-schema: a virtual machine has no Intel RDT");
  }
  Json json = Json::object();
  TRY_AS(SetSize(json, "memory", "limit", options.memory), "--memory");
  TRY_AS(SetSize(json, "memory", "reservation", options.memory_reservation),
         "--memory-reservation");
  TRY_AS(SetSize(json, "memory", "swap", options.memory_swap), "--memory-swap");
  SetNumber(json, "cpu", "shares", options.cpu_shares);
  SetNumber(json, "cpu", "quota", options.cpu_quota);
  SetNumber(json, "cpu", "period", options.cpu_period);
  SetNumber(json, "cpu", "burst", options.cpu_burst);
  SetNumber(json, "cpu", "idle", options.cpu_idle);
  SetNumber(json, "cpu", "realtimeRuntime", options.cpu_rt_runtime);
  SetNumber(json, "cpu", "realtimePeriod", options.cpu_rt_period);
  SetNumber(json, "blockIO", "weight", options.blkio_weight);
  SetNumber(json, "pids", "limit", options.pids_limit);
  if (!options.cpuset_cpus.empty()) {
    json["cpu"]["cpus"] = options.cpuset_cpus;
  }
  if (!options.cpuset_mems.empty()) {
    json["cpu"]["mems"] = options.cpuset_mems;
  }
  return json.dump();
}

void AddUpdate(CLI::App& app, GlobalOptions& globals, Action& action) {
  CLI::App* update = app.add_subcommand("update", "Change the limits of a container.");
  auto id = std::make_shared<std::string>();
  auto options = std::make_shared<UpdateOptions>();
  update->add_option("-r,--resources", options->resources,
                     "File with linux.resources as JSON, or - for standard input; then no other "
                     "option counts");
  update->add_option("--cpu-share", options->cpu_shares, "CPU shares");
  update->add_option("--cpu-quota", options->cpu_quota, "Microseconds of CPU in a period");
  update->add_option("--cpu-period", options->cpu_period, "Microseconds of a period");
  update->add_option("--cpu-burst", options->cpu_burst, "Microseconds saved up beyond the quota");
  update->add_option("--cpu-idle", options->cpu_idle,
                     "1: only what nobody else wants; 0: as usual");
  update->add_option("--cpu-rt-runtime", options->cpu_rt_runtime, "Not supported");
  update->add_option("--cpu-rt-period", options->cpu_rt_period, "Not supported");
  update->add_option("--cpuset-cpus", options->cpuset_cpus, "Of the host: of no meaning in a VM");
  update->add_option("--cpuset-mems", options->cpuset_mems, "Of the host: of no meaning in a VM");
  update->add_option("--memory", options->memory, "Memory limit");
  update->add_option("--memory-reservation", options->memory_reservation, "Soft memory limit");
  update->add_option("--memory-swap", options->memory_swap, "Limit of memory and swap");
  update->add_option("--pids-limit", options->pids_limit, "Limit of processes");
  update->add_option("--blkio-weight", options->blkio_weight, "Weight of its I/O: 10 to 1000");
  update->add_option("--l3-cache-schema", options->l3_cache_schema, "Not supported");
  update->add_option("--mem-bw-schema", options->mem_bw_schema, "Not supported");
  update->add_option("ID", *id, "The container")->required()->type_name("");
  AddGlobalOptions(*update, globals);
  update->callback([&action, id, options] {
    action =
        EngineAction([id, options](const Engine& engine) { return Update(engine, *id, *options); });
  });
}

}  // namespace bulkhead::cli
