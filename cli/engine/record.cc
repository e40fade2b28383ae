#include "cli/engine/record.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/sys.h"
#include "base/temp_dir.h"

namespace bulkhead::cli {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxId = 1024;
constexpr char kNotThere[] = "container does not exist";

}  // namespace

std::string RecordToJson(const ContainerRecord& record) {
  return Json{{"id", record.id},
              {"ociVersion", record.version},
              {"bundle", record.bundle},
              {"rootfs", record.rootfs},
              {"created", record.created},
              {"pod", record.pod},
              {"cgroupsPath", record.cgroups_path},
              {"systemdCgroup", record.systemd_cgroup},
              {"annotations", record.annotations},
              {"pid", record.pid},
              {"started", record.started}}
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<ContainerRecord> ParseRecord(std::string_view text) {
  try {
    const Json json = Json::parse(text);
    ContainerRecord record;
    json.at("id").get_to(record.id);
    json.at("ociVersion").get_to(record.version);
    json.at("bundle").get_to(record.bundle);
    json.at("rootfs").get_to(record.rootfs);
    json.at("created").get_to(record.created);
    json.at("pod").get_to(record.pod);
    json.at("cgroupsPath").get_to(record.cgroups_path);
    json.at("systemdCgroup").get_to(record.systemd_cgroup);
    json.at("annotations").get_to(record.annotations);
    json.at("pid").get_to(record.pid);
    json.at("started").get_to(record.started);
    return record;
  } catch (const Json::exception& error) {
    return MakeError(ErrorCode::kInternal, "the container's record is damaged: {}", error.what());
  }
}

Status CheckContainerId(const std::string& id) {
  const auto allowed = [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_' || c == '+' || c == '-' || c == '.';
  };
  if (id.empty() || id == "." || id == ".." || id.size() > kMaxId ||
      !std::all_of(id.begin(), id.end(), allowed)) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "invalid container ID format: \"{}\": letters, digits and _+-. make an ID",
                     id);
  }
  return {};
}

Status ContainerRoot::Reserve(const std::string& id) const {
  TRY(CheckContainerId(id));
  TRY(sys::MkdirAll(path_ + "/containers", 0700));
  const Status made = sys::Mkdir(FolderOf(id), 0700);
  if (!made && made.error().code() == ErrorCode::kAlreadyExists) {
    return MakeError(ErrorCode::kAlreadyExists, "container with given ID already exists: {}", id);
  }
  return made;
}

Status ContainerRoot::Save(const ContainerRecord& record) const {
  return sys::WriteFileAtomically(FolderOf(record.id) + "/state.json", RecordToJson(record), 0600);
}

Result<ContainerRecord> ContainerRoot::Load(const std::string& id) const {
  TRY(CheckContainerId(id));
  const auto text = sys::ReadFile(FolderOf(id) + "/state.json");
  if (!text && text.error().code() == ErrorCode::kNotFound) {
    return MakeError(ErrorCode::kNotFound, "{}: \"{}\"", kNotThere, id);
  }
  return ParseRecord(TRY(text));
}

bool ContainerRoot::Has(const std::string& id) const {
  return CheckContainerId(id) && sys::IsDirectory(FolderOf(id));
}

std::vector<ContainerRecord> ContainerRoot::List() const {
  std::vector<ContainerRecord> records;
  auto ids = sys::ListDirectory(path_ + "/containers").value_or(std::vector<std::string>());
  std::sort(ids.begin(), ids.end());
  for (const std::string& id : ids) {
    if (auto record = Load(id)) {
      records.push_back(std::move(*record));
    }
  }
  return records;
}

Status ContainerRoot::Remove(const std::string& id) const { return RemoveTree(FolderOf(id)); }

bool StandInLives(const ContainerRecord& record) {
  if (record.pid <= 0) {
    return false;
  }
  const auto pidfd = sys::PidfdOpen(record.pid);
  const auto started = shim::ProcessStartTime(record.pid);
  return pidfd && started && *started == record.started &&
         !sys::PollOne(pidfd->get(), 1, std::chrono::milliseconds(0)).value_or(true);
}

}  // namespace bulkhead::cli
