#include "cli/pod_folder.h"

#include <fcntl.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/sys.h"
#include "base/temp_dir.h"
#include "cli/run_options.h"
#include "shim/network/filter_group.h"

namespace bulkhead::cli {
namespace {

using Json = nlohmann::json;

// nullopt when it is missing or not what it should be: a crash may have cut it short.
std::optional<Json> ReadJson(const std::string& path) {
  const Result<std::string> text = sys::ReadFile(path);
  if (!text) {
    return std::nullopt;
  }
  Json json = Json::parse(*text, nullptr, false);
  return json.is_object() ? std::optional(std::move(json)) : std::nullopt;
}

template <typename T>
T Value(const Json& json, const char* key, T fallback) {
  try {
    return json.value(key, fallback);
  } catch (const Json::exception&) {
    return fallback;
  }
}

PodRecord ReadRecord(const PodPaths& paths) {
  PodRecord record;
  record.name = paths.name;
  if (const auto json = ReadJson(paths.state + "/pod.json")) {
    record.image = Value(*json, "image", std::string());
    record.command = Value(*json, "command", std::vector<std::string>());
    record.created_at = Value(*json, "created_at", std::string());
    record.auto_remove = Value(*json, "auto_remove", false);
    record.detached = Value(*json, "detached", false);
    record.layers = Value(*json, "layers", std::vector<std::string>());
    record.network = Value(*json, "network", std::string("none"));
    record.ports = Value(*json, "ports", std::vector<std::string>());
  }
  return record;
}

// What a crash left: nobody holds the lock, and no exit was recorded. A folder that another run is
// making at this moment has no lock file yet for a few microseconds: younger than 2 s is not dead.
bool IsRemains(const PodPaths& paths) {
  if (ReadExit(paths) || IsLocked(paths)) {
    return false;
  }
  if (sys::Exists(paths.lock())) {
    return true;
  }
  const Result<struct stat> info = sys::Stat(paths.state);
  return info && ::time(nullptr) - info->st_mtime > 2;
}

}  // namespace

PodPaths::PodPaths(const Config& config, const std::string& pod)
    : name(pod),
      state(fmt::format("{}/pods/{}", config.state_dir, pod)),
      data(fmt::format("{}/pods/{}", config.data_dir, pod)) {}

Result<PodFolder> PodFolder::Create(const Config& config, const std::string& name,
                                    const std::string& rootfs) {
  TRY(sys::MkdirAll(config.state_dir + "/pods", 0700));
  TRY(sys::MkdirAll(config.data_dir + "/pods", 0700));
  PodFolder folder{PodPaths(config, name)};
  const PodPaths& paths = folder.paths_;
  if (paths.socket().size() >= sizeof(sockaddr_un::sun_path)) {
    return MakeError(ErrorCode::kInvalidArgument, "the path of the pod's socket is too long: {}",
                     paths.socket());
  }
  Status made = sys::Mkdir(paths.state, 0700);
  if (!made && made.error().errnum() == EEXIST) {
    if (!IsRemains(paths)) {
      return MakeError(ErrorCode::kAlreadyExists, "a container named \"{}\" exists already", name);
    }
    TRY(RemovePod(paths));
    made = sys::Mkdir(paths.state, 0700);
  }
  TRY(std::move(made));
  folder.armed_ = TRY(sys::Open(paths.state, O_RDONLY | O_DIRECTORY));
  TRY(folder.Fill(rootfs));
  return folder;
}

Status PodFolder::Fill(const std::string& rootfs) {
  lock_ = TRY(sys::Open(paths_.lock(), O_RDWR | O_CREAT | O_EXCL, 0600));
  TRY(sys::LockFile(lock_.get(), true));  // the file is new: at most a `list` looks at it
  TRY(sys::Mkdir(paths_.bundle(), 0700));
  TRY(sys::Mkdir(paths_.io(), 0700));
  TRY(sys::RemoveAll(paths_.data));  // a crash may have left the data without the state
  TRY(sys::Mkdir(paths_.data, 0700));
  const struct stat top = TRY(sys::Stat(rootfs));
  const std::string upper = paths_.data + "/upper";
  TRY(sys::Mkdir(upper, 0755));
  TRY(sys::Chown(upper, top.st_uid, top.st_gid));
  TRY(sys::Chmod(upper, top.st_mode & 07777));
  return sys::Mkdir(paths_.data + "/work", 0700);
}

PodFolder::~PodFolder() { Remove(); }

void PodFolder::Remove() {
  if (armed_) {
    (void)RemovePod(paths_);  // what is left is seen by `list` and `rm`
    armed_.Reset();
  }
}

Status PodFolder::WriteRecord(const PodRecord& record) const {
  const Json json{{"name", record.name},
                  {"image", record.image},
                  {"command", record.command},
                  {"created_at", record.created_at},
                  {"auto_remove", record.auto_remove},
                  {"detached", record.detached},
                  {"layers", record.layers},
                  {"network", record.network},
                  {"ports", record.ports}};
  return sys::WriteFile(paths_.state + "/pod.json",
                        json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n", 0600);
}

bool IsLocked(const PodPaths& paths) {
  const Result<UniqueFd> lock = sys::Open(paths.lock(), O_RDWR);
  if (!lock) {
    return false;
  }
  const Result<bool> taken = sys::LockFile(lock->get(), false);
  return taken && !*taken;
}

std::optional<ExitRecord> ReadExit(const PodPaths& paths) {
  const auto json = ReadJson(paths.state + "/exit.json");
  if (!json) {
    return std::nullopt;
  }
  ExitRecord record;
  record.exit_code = Value(*json, "exit_code", 0);
  record.signal = Value(*json, "signal", 0);
  record.oom_killed = Value(*json, "oom_killed", false);
  record.exited_at = Value(*json, "exited_at", std::string());
  record.error = Value(*json, "error", std::string());
  return record;
}

Result<PodInfo> FindPod(const Config& config, const std::string& name) {
  PodInfo info{PodPaths(config, name), PodState::kDead, {}, std::nullopt};
  if (!CheckName(name) || !sys::IsDirectory(info.paths.state)) {
    return MakeError(ErrorCode::kNotFound, "container does not exist: \"{}\"", name);
  }
  info.record = ReadRecord(info.paths);
  info.exit = ReadExit(info.paths);
  info.state = IsLocked(info.paths) ? PodState::kRunning
               : info.exit          ? PodState::kExited
                                    : PodState::kDead;
  return info;
}

Result<std::vector<PodInfo>> ListPods(const Config& config) {
  std::vector<PodInfo> pods;
  const std::string folder = config.state_dir + "/pods";
  if (!sys::Exists(folder)) {
    return pods;
  }
  for (const std::string& name : TRY(sys::ListDirectory(folder))) {
    if (Result<PodInfo> info = FindPod(config, name)) {  // it may have gone meanwhile
      pods.push_back(std::move(*info));
    }
  }
  std::sort(pods.begin(), pods.end(), [](const PodInfo& a, const PodInfo& b) {
    return a.record.created_at > b.record.created_at;
  });
  return pods;
}

Status RemovePod(const PodPaths& paths) {
  constexpr size_t kMaxPath = 4096;
  if (const auto group = sys::ReadFile(paths.state + "/" + shim::kFilterGroupFile, kMaxPath)) {
    TRY(shim::FilterGroup::Remove(*group));
  }
  TRY(RemoveTree(paths.data));
  return RemoveTree(paths.state);
}

std::string RandomHex(size_t digits) {
  std::string text;
  while (text.size() < digits) {
    uint64_t bits = 0;
    if (::getrandom(&bits, sizeof(bits), 0) == sizeof(bits)) {
      text += fmt::format("{:016x}", bits);
    }
  }
  return text.substr(0, digits);
}

std::string RandomName() {
  static constexpr std::array<std::string_view, 16> kAdjectives{
      "amber", "brave", "calm",  "clever", "eager", "gentle", "happy", "jolly",
      "keen",  "lucky", "merry", "nimble", "proud", "quiet",  "swift", "witty"};
  static constexpr std::array<std::string_view, 16> kNouns{
      "badger", "beaver", "crane", "falcon", "ferret", "heron", "ibis",    "lynx",
      "marten", "otter",  "owl",   "plover", "raven",  "robin", "sparrow", "stoat"};
  const std::string hex = RandomHex(6);
  const auto digit = [&](size_t i) { return std::stoul(hex.substr(i, 1), nullptr, 16); };
  return fmt::format("{}_{}_{}", kAdjectives.at(digit(0)), kNouns.at(digit(1)), hex.substr(2));
}

}  // namespace bulkhead::cli
