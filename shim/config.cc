#include "shim/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <map>
#include <string_view>
#include <vector>

#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include "base/sys.h"

namespace bulkhead {
namespace {

// One key of the file: takes the value, or says what it should have been.
using Setter = std::function<Status(const toml::node&)>;

Setter Text(std::string& target, std::vector<std::string_view> allowed = {}) {
  return [&target, allowed = std::move(allowed)](const toml::node& node) -> Status {
    const auto value = node.value<std::string>();
    if (!node.is_string()) {
      return MakeError(ErrorCode::kInvalidArgument, "expected a string");
    }
    if (!allowed.empty() && std::find(allowed.begin(), allowed.end(), *value) == allowed.end()) {
      return MakeError(ErrorCode::kInvalidArgument, "\"{}\" is none of {}", *value,
                       fmt::join(allowed, ", "));
    }
    target = *value;
    return {};
  };
}

Setter Number(uint32_t& target, int64_t low, int64_t high) {
  return [&target, low, high](const toml::node& node) -> Status {
    const auto value = node.value<int64_t>();
    if (!node.is_integer() || *value < low || *value > high) {
      return MakeError(ErrorCode::kInvalidArgument, "expected a number from {} to {}", low, high);
    }
    target = static_cast<uint32_t>(*value);
    return {};
  };
}

Setter Size(uint64_t& target) {
  return [&target](const toml::node& node) -> Status {
    const auto value = node.value<std::string>();
    if (!node.is_string()) {
      return MakeError(ErrorCode::kInvalidArgument, "expected a size such as \"512m\"");
    }
    target = TRY(ParseSize(*value));
    return {};
  };
}

// "" is the built-in value.
Setter UpperSize(uint64_t& target) {
  constexpr uint64_t kMin = 16ULL << 20U;
  constexpr uint64_t kMax = 16ULL << 40U;
  return [&target](const toml::node& node) -> Status {
    uint64_t size = 0;
    if (node.value<std::string>() != "") {
      TRY(Size(size)(node));
      if (size < kMin || size > kMax) {
        return MakeError(ErrorCode::kInvalidArgument, "\"{}\" is not from 16m to 16t",
                         *node.value<std::string>());
      }
    }
    target = size;
    return {};
  };
}

// A path in a container, in which each component is a name.
bool IsFolderPath(std::string_view path) {
  if (path.size() < 2 || path[0] != '/') {
    return false;
  }
  for (size_t start = 1; start <= path.size();) {
    const size_t end = std::min(path.find('/', start), path.size());
    const std::string_view name = path.substr(start, end - start);
    if (name.empty() || name == "." || name == "..") {
      return false;
    }
    start = end + 1;
  }
  return true;
}

// "/a:/b/c", as in PATH.
Setter Folders(std::vector<std::string>& target) {
  return [&target](const toml::node& node) -> Status {
    constexpr size_t kMaxFolders = 64;
    const auto value = node.value<std::string>();
    if (!node.is_string()) {
      return MakeError(ErrorCode::kInvalidArgument, "expected a string such as \"/a:/b\"");
    }
    std::vector<std::string> folders;
    for (size_t start = 0; start < value->size();) {
      const size_t end = std::min(value->find(':', start), value->size());
      folders.push_back(value->substr(start, end - start));
      if (!IsFolderPath(folders.back()) || folders.size() > kMaxFolders) {
        return MakeError(ErrorCode::kInvalidArgument,
                         "\"{}\": expected absolute paths with ':' between them, at most {}",
                         *value, kMaxFolders);
      }
      start = end + 1;
    }
    target = std::move(folders);
    return {};
  };
}

Setter Names(std::vector<std::string>& target) {
  return [&target](const toml::node& node) -> Status {
    const toml::array* array = node.as_array();
    if (array == nullptr || !(array->empty() || array->is_homogeneous<std::string>())) {
      return MakeError(ErrorCode::kInvalidArgument, "expected an array of strings");
    }
    target.clear();
    for (const toml::node& entry : *array) {
      target.push_back(*entry.value<std::string>());
    }
    return {};
  };
}

using KeyTable = std::map<std::string_view, std::map<std::string_view, Setter>>;

KeyTable Keys(Config& config) {
  return {
      {"hypervisor",
       {{"driver", Text(config.driver, {"qemu"})},
        {"qemu", Text(config.qemu)},
        {"firmware", Text(config.firmware)},
        {"kernel", Text(config.kernel)},
        {"image", Text(config.image)},
        {"kernel_parameters", Text(config.kernel_parameters)},
        {"accel", Text(config.accel, {"auto", "kvm", "tcg"})},
        {"channel", Text(config.channel, {"auto", "vsock", "serial"})},
        {"vcpus", Number(config.vcpus, 1, 64)},
        {"memory", Size(config.memory_bytes)},
        {"memory_overhead", Size(config.memory_overhead_bytes)},
        {"hotplug_slots", Number(config.hotplug_slots, 0, 248)},
        {"boot_timeout", Number(config.boot_timeout_s, 1, 3600)},
        {"kvm_watchdog", Number(config.kvm_watchdog_s, 1, 3600)}}},
      {"sharing",
       {{"transport", Text(config.transport, {"auto", "virtiofs", "9p"})},
        {"virtiofsd", Text(config.virtiofsd)}}},
      {"network",
       {{"model", Text(config.network_model, {"tc", "macvtap"})},
        {"user_backend", Text(config.user_backend, {"auto", "passt", "slirp"})},
        {"passt", Text(config.passt)}}},
      {"rootfs",
       {{"upper", Text(config.upper, {"shared", "block", "memory"})},
        {"upper_size", UpperSize(config.upper_size_bytes)},
        {"upper_folders", Folders(config.upper_folders)},
        {"mkfs", Text(config.mkfs)}}},
      {"paths", {{"state", Text(config.state_dir)}, {"data", Text(config.data_dir)}}},
      {"annotations", {{"allowed", Names(config.allowed_annotations)}}},
  };
}

Result<Config> Defaults() {
  Config config;
  const std::string share = TRY(ProgramFolder()) + "/../share/bulkhead";
  config.kernel = share + "/vmlinux";
  config.image = share + "/guest.img";
  return config;
}

}  // namespace

Result<uint64_t> ParseSize(std::string_view text) {
  const std::string copy(text);
  char* end = nullptr;
  const double number = std::strtod(copy.c_str(), &end);
  std::string_view unit(end);
  uint64_t factor = 1;
  if (!unit.empty()) {
    const size_t index = std::string_view("bkmgt").find(static_cast<char>(std::tolower(unit[0])));
    unit.remove_prefix(1);
    const bool suffix = unit.empty() || unit == "b" || unit == "B" || unit == "ib" || unit == "iB";
    if (index == std::string_view::npos || !suffix) {
      return MakeError(ErrorCode::kInvalidArgument, "\"{}\" is not a size such as 512m or 2g",
                       text);
    }
    factor = 1ULL << (10U * index);
  }
  const double bytes = number * static_cast<double>(factor);
  if (end == copy.c_str() || !std::isfinite(bytes) || bytes < 0 || bytes > 9e18 ||
      copy.find_first_of("xXpPnN") != std::string::npos) {
    return MakeError(ErrorCode::kInvalidArgument, "\"{}\" is not a size such as 512m or 2g", text);
  }
  return static_cast<uint64_t>(bytes);
}

namespace {

std::string FirstThatExists(std::initializer_list<const char*> paths) {
  for (const char* path : paths) {
    if (sys::Exists(path)) {
      return path;
    }
  }
  return {};
}

}  // namespace

std::string FindVirtiofsd(const Config& config) {
  if (config.transport == "9p") {
    return {};
  }
  return !config.virtiofsd.empty()
             ? config.virtiofsd
             : FirstThatExists(
                   {"/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/lib/virtiofsd"});
}

std::string FindPasst(const Config& config) {
  if (config.user_backend == "slirp") {
    return {};
  }
  return !config.passt.empty() ? config.passt
                               : FirstThatExists({"/usr/bin/passt", "/usr/local/bin/passt"});
}

Result<std::string> ProgramFolder() {
  const std::string path = TRY(sys::ReadLink("/proc/self/exe"));
  return path.substr(0, path.rfind('/'));
}

namespace {

Status ApplyToml(std::string_view text, const std::string& name, Config& config) {
  const toml::parse_result parsed = toml::parse(text);
  if (!parsed) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: line {}: {}", name,
                     parsed.error().source().begin.line, parsed.error().description());
  }
  const KeyTable keys = Keys(config);
  for (const auto& [section_name, section_node] : parsed.table()) {
    const auto section = keys.find(section_name.str());
    const toml::table* table = section_node.as_table();
    if (section == keys.end() || table == nullptr) {
      return MakeError(ErrorCode::kInvalidArgument, "{}: unknown {} \"{}\"", name,
                       table == nullptr ? "key" : "section", section_name.str());
    }
    for (const auto& [key, value] : *table) {
      const auto setter = section->second.find(key.str());
      if (setter == section->second.end()) {
        return MakeError(ErrorCode::kInvalidArgument, "{}: unknown key \"{}.{}\"", name,
                         section_name.str(), key.str());
      }
      TRY_AS(setter->second(value), "{}: {}.{}", name, section_name.str(), key.str());
    }
  }
  return {};
}

const Setter* FindSetter(const KeyTable& keys, std::string_view dotted) {
  const size_t dot = dotted.find('.');
  const auto section = keys.find(dotted.substr(0, dot));
  if (dot == std::string_view::npos || section == keys.end() || section->first == "annotations") {
    return nullptr;
  }
  const auto setter = section->second.find(dotted.substr(dot + 1));
  return setter == section->second.end() ? nullptr : &setter->second;
}

Status CheckAllowed(Config& config) {
  const KeyTable keys = Keys(config);
  for (const std::string& name : config.allowed_annotations) {
    if (FindSetter(keys, name) == nullptr) {
      return MakeError(ErrorCode::kInvalidArgument,
                       "{}: annotations.allowed: there is no key \"{}\"", config.source, name);
    }
  }
  return {};
}

Result<Config> LoadFile(const std::string& file) {
  constexpr size_t kMaxBytes = 1U << 20U;
  Config config = TRY(ParseConfig(TRY_AS(sys::ReadFile(file, kMaxBytes), "configuration"), file));
  std::vector<std::string> names =
      sys::ListDirectory(file + ".d").value_or(std::vector<std::string>());
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    if (name.ends_with(".toml") && !name.starts_with('.')) {
      const std::string drop_in = fmt::format("{}.d/{}", file, name);
      TRY(ApplyToml(TRY_AS(sys::ReadFile(drop_in, kMaxBytes), "configuration"), drop_in, config));
    }
  }
  TRY(CheckAllowed(config));
  return config;
}

}  // namespace

Result<Config> ParseConfig(std::string_view text, const std::string& name) {
  Config config = TRY(Defaults());
  config.source = name;
  TRY(ApplyToml(text, name, config));
  TRY(CheckAllowed(config));
  return config;
}

Result<Config> LoadConfig(const std::optional<std::string>& path) {
  const char* environment = std::getenv("BULKHEAD_CONFIG");
  if (path || (environment != nullptr && *environment != '\0')) {
    return LoadFile(path ? *path : environment);
  }
  for (const std::string& file : {TRY(ProgramFolder()) + "/../etc/bulkhead/config.toml",
                                  std::string("/etc/bulkhead/config.toml")}) {
    if (sys::Exists(file)) {
      return LoadFile(file);
    }
  }
  return Defaults();
}

Result<Config> ApplyAnnotations(Config config,
                                const std::map<std::string, std::string>& annotations) {
  constexpr std::string_view kPrefix = "io.bulkhead.";
  const KeyTable keys = Keys(config);
  const auto& allowed = config.allowed_annotations;
  for (const auto& [name, text] : annotations) {
    if (!name.starts_with(kPrefix)) {
      continue;
    }
    std::string key = name.substr(kPrefix.size());
    std::replace(key.begin() + static_cast<ptrdiff_t>(key.find('.') + 1), key.end(), '.', '_');
    const Setter* setter = FindSetter(keys, key);
    if (setter == nullptr) {
      continue;  // a pod may say more than this version knows
    }
    if (std::find(allowed.begin(), allowed.end(), key) == allowed.end()) {
      return MakeError(ErrorCode::kPermissionDenied,
                       "annotation {}: not allowed: \"{}\" is not in annotations.allowed of {}",
                       name, key, config.source.empty() ? "the configuration" : config.source);
    }
    auto set = (*setter)(toml::value<std::string>(text));
    int64_t number = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
    if (!set && parsed.ec == std::errc() && parsed.ptr == text.data() + text.size() &&
        (*setter)(toml::value<int64_t>(number))) {
      set = {};
    }
    TRY_AS(std::move(set), "annotation {}", name);
  }
  return config;
}

}  // namespace bulkhead
