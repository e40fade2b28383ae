#include "cli/engine/list.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace bulkhead::cli {
namespace {

using Json = nlohmann::json;

Json ToJson(const ContainerRecord& record, const LiveState& state) {
  Json json{{"ociVersion", record.version}, {"id", record.id},         {"pid", state.pid},
            {"status", state.status},       {"bundle", record.bundle}, {"rootfs", record.rootfs},
            {"created", record.created},    {"owner", "root"}};
  if (!record.annotations.empty()) {
    json["annotations"] = record.annotations;
  }
  return json;
}

std::string Dump(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

std::vector<ListedContainer> ListContainers(const Engine& engine) {
  std::vector<ListedContainer> listed;
  for (ContainerRecord& record : engine.root().List()) {
    auto state = StateOf(engine, record);
    listed.push_back({std::move(record), state.value_or(LiveState{"stopped", 0})});
  }
  return listed;
}

std::string FullStateJson(const ContainerRecord& record, const LiveState& state) {
  Json json = ToJson(record, state);
  json["owner"] = "";
  return Dump(json, 2);
}

std::string ContainersJson(const std::vector<ListedContainer>& containers) {
  Json json = Json::array();
  for (const ListedContainer& entry : containers) {
    json.push_back(ToJson(entry.record, entry.state));
  }
  return containers.empty() ? "null" : Dump(json, -1);
}

std::string ContainersTable(const std::vector<ListedContainer>& containers) {
  size_t id = 2;
  size_t bundle = 6;
  size_t created = 7;
  for (const ListedContainer& entry : containers) {
    id = std::max(id, entry.record.id.size());
    bundle = std::max(bundle, entry.record.bundle.size());
    created = std::max(created, entry.record.created.size());
  }
  const auto line = [&](const auto& first, const auto& pid, const auto& status, const auto& folder,
                        const auto& time, const auto& owner) {
    return fmt::format("{:{}}   {:9}   {:9}   {:{}}   {:{}}   {}\n", first, id, pid, status, folder,
                       bundle, time, created, owner);
  };
  std::string text = line("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER");
  for (const ListedContainer& entry : containers) {
    text += line(entry.record.id, std::to_string(entry.state.pid), entry.state.status,
                 entry.record.bundle, entry.record.created, "root");
  }
  return text;
}

}  // namespace bulkhead::cli
