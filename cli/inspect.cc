// bulkhead inspect: what the VM and the network of a container's pod are made of.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/engine/container.h"
#include "cli/pod_folder.h"
#include "inspection.pb.h"
#include "rpc/ttrpc_client.h"

namespace bulkhead::cli {
namespace {

using Json = nlohmann::json;
namespace pb = inspection::v1;

constexpr char kService[] = "bulkhead.inspection.v1.Inspection";
constexpr std::chrono::seconds kPatience{10};

Json ToJson(const pb::Vm& vm) {
  return {{"driver", vm.driver()},
          {"accelerator", vm.accelerator()},
          {"agent_channel", vm.agent_channel()},
          {"pid", vm.pid()},
          {"vcpus", vm.vcpus()},
          {"memory_bytes", vm.memory_bytes()}};
}

Json ToJson(const pb::Network::Interface& interface) {
  Json json{{"name", interface.name()}, {"kind", interface.kind()}, {"mac", interface.mac()},
            {"mtu", interface.mtu()},   {"up", interface.up()},     {"addresses", Json::array()}};
  for (const std::string& address : interface.addresses()) {
    json["addresses"].push_back(address);
  }
  if (!interface.vlan_link().empty()) {
    json["vlan"] = {{"link", interface.vlan_link()}, {"id", interface.vlan_id()}};
  }
  if (interface.has_nic()) {
    const pb::Network::Nic& nic = interface.nic();
    json["nic"] = {{"id", nic.id()},          {"mac", nic.mac()},       {"tap", nic.tap()},
                   {"model", nic.model()},    {"queues", nic.queues()}, {"vhost", nic.vhost()},
                   {"plugged", nic.plugged()}};
  }
  return json;
}

Json ToJson(const pb::Network& network) {
  Json json{{"kind", network.kind()},
            {"interfaces", Json::array()},
            {"left_out", Json::array()},
            {"forwards_ports", network.forwards_ports()},
            {"relays_names", network.relays_names()}};
  for (const auto& interface : network.interfaces()) {
    json["interfaces"].push_back(ToJson(interface));
  }
  for (const std::string& sentence : network.left_out()) {
    json["left_out"].push_back(sentence);
  }
  return json;
}

Json ToJson(const pb::Pod& pod) {
  Json json{{"pod", pod.id()}, {"vm", nullptr}, {"containers", Json::array()}};
  if (pod.has_vm()) {
    json["vm"] = ToJson(pod.vm());
  }
  for (const std::string& id : pod.containers()) {
    json["containers"].push_back(id);
  }
  json["network"] = ToJson(pod.network());
  return json;
}

Result<pb::Pod> Ask(const std::string& socket) {
  const auto client = TRY(rpc::TtrpcClient::Connect(socket));
  return client->Call<pb::Pod>(kService, "Inspect", pb::InspectRequest(), kPatience);
}

// The pod of an engine that speaks to the shim: its daemons alone know their containers.
Result<pb::Pod> AskShims(const Config& config, const std::string& id) {
  for (const shim::EnginePod& engine_pod : shim::EnginePod::OfShims(config)) {
    auto pod = Ask(engine_pod.socket);
    if (pod && (pod->id() == id || std::find(pod->containers().begin(), pod->containers().end(),
                                             id) != pod->containers().end())) {
      return pod;
    }
  }
  return MakeError(ErrorCode::kNotFound, "container \"{}\" does not exist", id);
}

Result<pb::Pod> Find(Context& context, const std::string& name) {
  const Engine engine = TRY(Engine::Open(context));
  if (engine.root().Has(name)) {
    return Ask(engine.root().PodOf(TRY(engine.root().Load(name)).pod).socket);
  }
  const auto pod = FindPod(engine.config(), name);
  if (!pod) {
    return pod.error().code() == ErrorCode::kNotFound ? AskShims(engine.config(), name)
                                                      : tl::unexpected(pod.error());
  }
  if (pod->state != PodState::kRunning) {
    return MakeError(ErrorCode::kFailedPrecondition, "container \"{}\" is not running", name);
  }
  return Ask(pod->paths.socket());
}

Status Inspect(Context& context, const std::string& name) {
  const Json json = ToJson(TRY(Find(context, name)));
  return PrintOut(json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace

void AddInspect(CLI::App& app, GlobalOptions& globals, Action& action) {
  CLI::App* inspect = app.add_subcommand("inspect",
                                         "Show what the pod of a running container is made of, as "
                                         "JSON: its VM, its containers, and how\n"
                                         "each interface of its network is carried into the VM. "
                                         "NAME may be a container of `run`, of an\n"
                                         "engine that calls this program, or of containerd.");
  auto name = std::make_shared<std::string>();
  inspect->add_option("NAME", *name, "The container")->required()->type_name("");
  AddGlobalOptions(*inspect, globals);
  inspect->callback([&action, name] {
    action = [name](Context& context) {
      const Status shown = Inspect(context, *name);
      return shown ? 0 : context.Fail(shown.error());
    };
  });
}

}  // namespace bulkhead::cli
