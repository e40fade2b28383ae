// bulkhead list: the containers of this host.
#include "cli/engine/list.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/pod_folder.h"

namespace bulkhead::cli {
namespace {

using Json = nlohmann::json;

struct ListOptions {
  bool all = false;
  bool quiet = false;
  std::string format = "table";
};

std::string StateText(const PodInfo& pod) {
  switch (pod.state) {
    case PodState::kRunning:
      return "running";
    case PodState::kExited:
      return fmt::format("exited ({}{})", pod.exit->ShellCode(),
                         pod.exit->oom_killed ? ", out of memory" : "");
    case PodState::kDead:
      return "dead";
  }
  return "";
}

std::string Joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) {
    text += (text.empty() ? "" : " ") + word;
  }
  return OneLine(text);
}

Json ToJson(const PodInfo& pod) {
  Json json{{"name", pod.paths.name},
            {"state", pod.state == PodState::kRunning  ? "running"
                      : pod.state == PodState::kExited ? "exited"
                                                       : "dead"},
            {"image", pod.record.image},
            {"command", pod.record.command},
            {"created_at", pod.record.created_at},
            {"network", pod.record.network},
            {"ports", pod.record.ports}};
  if (pod.exit) {
    json["exit_code"] = pod.exit->ShellCode();
    json["exited_at"] = pod.exit->exited_at;
    json["oom_killed"] = pod.exit->oom_killed;
    json["error"] = pod.exit->error;
  }
  return json;
}

std::string Table(const std::vector<PodInfo>& pods) {
  size_t name = 4;
  size_t image = 5;
  for (const PodInfo& pod : pods) {
    name = std::max(name, pod.paths.name.size());
    image = std::max(image, pod.record.image.size());
  }
  std::string text = fmt::format("{:{}}  {:14}  {:20}  {:{}}  COMMAND\n", "NAME", name, "STATE",
                                 "CREATED", "IMAGE", image);
  for (const PodInfo& pod : pods) {
    text += fmt::format("{:{}}  {:14}  {:20}  {:{}}  {:.60}\n", pod.paths.name, name,
                        StateText(pod), pod.record.created_at.substr(0, 19), pod.record.image,
                        image, Joined(pod.record.command));
  }
  return text;
}

Status List(Context& context, const ListOptions& options) {
  const Config config = TRY(context.LoadConfig());
  std::vector<PodInfo> pods = TRY(ListPods(config));
  if (!options.all) {
    std::erase_if(pods, [](const PodInfo& pod) { return pod.state != PodState::kRunning; });
  }
  const std::vector<ListedContainer> engines = ListContainers(TRY(Engine::Open(context)));
  if (options.format == "json") {
    Json json = ContainersJson(engines);
    for (const PodInfo& pod : pods) {
      json.push_back(ToJson(pod));
    }
    return PrintOut(json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  }
  if (!options.quiet) {
    const std::string table = engines.empty() ? "" : ContainersTable(engines);
    return PrintOut(engines.empty() || !pods.empty() ? table + Table(pods) : table);
  }
  std::string names;
  for (const ListedContainer& entry : engines) {
    names += entry.record.id + "\n";
  }
  for (const PodInfo& pod : pods) {
    names += pod.paths.name + "\n";
  }
  return PrintOut(names);
}

}  // namespace

void AddList(CLI::App& app, GlobalOptions& globals, Action& action) {
  CLI::App* list = app.add_subcommand("list", "List the containers that run.");
  list->alias("ls");
  auto options = std::make_shared<ListOptions>();
  list->add_flag("-a,--all", options->all, "Those that have ended too");
  list->add_flag("-q,--quiet", options->quiet, "Names only");
  list->add_option("-f,--format", options->format, "table or json")
      ->type_name("FORMAT")
      ->check(CLI::IsMember({"table", "json"}));
  AddGlobalOptions(*list, globals);
  list->callback([&action, options] {
    action = [options](Context& context) {
      const Status listed = List(context, *options);
      return listed ? 0 : context.Fail(listed.error());
    };
  });
}

}  // namespace bulkhead::cli
