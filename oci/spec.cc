#include "oci/spec.h"

#include <concepts>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

namespace bulkhead::oci {
namespace {

using nlohmann::json;

constexpr size_t kMaxBytes = 4U << 20U;

// The first error of a parse; what follows it is skipped.
class Outcome {
 public:
  explicit Outcome(std::string document) : document_(std::move(document)) {}
  bool ok() const { return !error_; }
  void Fail(ErrorCode code, std::string_view path, std::string_view text) {
    if (ok()) {
      error_ =
          Error(code, fmt::format("{}: {}{}{}", document_, path, path.empty() ? "" : ": ", text));
    }
  }
  void Malformed(std::string_view path, std::string_view text) {
    Fail(ErrorCode::kInvalidArgument, path, text);
  }
  Error TakeError() { return std::move(*error_); }

 private:
  const std::string document_;
  std::optional<Error> error_;
};

// Absent in meaning: what Go writes for a field that nobody set.
bool IsTrivial(const json& value) {
  switch (value.type()) {
    case json::value_t::null:
      return true;
    case json::value_t::boolean:
      return !value.get<bool>();
    case json::value_t::string:
      return value.get_ref<const std::string&>().empty();
    case json::value_t::number_integer:
    case json::value_t::number_unsigned:
      return value == 0;
    case json::value_t::array:
      return value.empty();
    case json::value_t::object:
      for (const auto& member : value) {
        if (!IsTrivial(member)) {
          return false;
        }
      }
      return true;
    default:
      return false;
  }
}

// One JSON object and its place in the document.
class Fields {
 public:
  Fields(Outcome& outcome, const json& value, std::string path)
      : outcome_(outcome), value_(value), path_(std::move(path)) {
    if (!value_.is_object()) {
      outcome_.Malformed(path_, "expected an object");
    }
  }

  // An absent or null field leaves `out` as it is.
  template <typename T>
  void Get(const char* name, T& out) const;
  template <typename T>
  void Require(const char* name, T& out) const {
    if (Find(name) == nullptr) {
      outcome_.Malformed(PathOf(name), "missing");
    }
    Get(name, out);
  }
  // Something asked for that Bulkhead does not do.
  void Refuse(const char* name, std::string_view what) const {
    const json* field = Find(name);
    if (field != nullptr && !IsTrivial(*field)) {
      outcome_.Fail(ErrorCode::kUnimplemented, PathOf(name), fmt::format("{} not supported", what));
    }
  }
  void Fail(const char* name, std::string_view text) const {
    outcome_.Malformed(PathOf(name), text);
  }

 private:
  const json* Find(const char* name) const {
    if (!outcome_.ok()) {
      return nullptr;
    }
    const auto found = value_.find(name);
    return found == value_.end() || found->is_null() ? nullptr : &*found;
  }
  std::string PathOf(const char* name) const {
    return path_.empty() ? name : fmt::format("{}.{}", path_, name);
  }

  Outcome& outcome_;
  const json& value_;
  const std::string path_;
};

void Read(Outcome& outcome, const json& value, const std::string& path, bool& out) {
  if (!value.is_boolean()) {
    return outcome.Malformed(path, "expected true or false");
  }
  out = value.get<bool>();
}

void Read(Outcome& outcome, const json& value, const std::string& path, std::string& out) {
  if (!value.is_string()) {
    return outcome.Malformed(path, "expected a string");
  }
  out = value.get_ref<const std::string&>();
  if (out.find('\0') != std::string::npos) {
    outcome.Malformed(path, "contains a zero byte");
  }
}

template <std::integral T>
void Read(Outcome& outcome, const json& value, const std::string& path, T& out) {
  if (!value.is_number_integer()) {
    return outcome.Malformed(path, "expected a whole number");
  }
  const bool fits = value.is_number_unsigned() ? std::in_range<T>(value.get<uint64_t>())
                                               : std::in_range<T>(value.get<int64_t>());
  if (!fits) {
    return outcome.Malformed(path, "number out of range");
  }
  out = value.is_number_unsigned() ? static_cast<T>(value.get<uint64_t>())
                                   : static_cast<T>(value.get<int64_t>());
}

void Read(Outcome& outcome, const json& value, const std::string& path,
          std::map<std::string, std::string>& out) {
  if (!value.is_object()) {
    return outcome.Malformed(path, "expected an object");
  }
  for (const auto& [key, member] : value.items()) {
    Read(outcome, member, fmt::format("{}[\"{}\"]", path, key), out[key]);
  }
}

void ReadFields(const Fields& fields, User& out) {
  fields.Get("uid", out.uid);
  fields.Get("gid", out.gid);
  fields.Get("umask", out.umask);
  fields.Get("additionalGids", out.additional_gids);
}

void ReadFields(const Fields& fields, ConsoleSize& out) {
  fields.Get("height", out.height);
  fields.Get("width", out.width);
}

void ReadFields(const Fields& fields, Rlimit& out) {
  fields.Require("type", out.type);
  fields.Get("soft", out.soft);
  fields.Get("hard", out.hard);
}

void ReadFields(const Fields& fields, Capabilities& out) {
  fields.Get("bounding", out.bounding);
  fields.Get("effective", out.effective);
  fields.Get("inheritable", out.inheritable);
  fields.Get("permitted", out.permitted);
  fields.Get("ambient", out.ambient);
}

void ReadFields(const Fields& fields, Process& out) {
  fields.Get("terminal", out.terminal);
  fields.Get("consoleSize", out.console_size);
  fields.Get("user", out.user);
  fields.Require("args", out.args);
  fields.Get("env", out.env);
  fields.Require("cwd", out.cwd);
  fields.Get("capabilities", out.capabilities);
  fields.Get("rlimits", out.rlimits);
  fields.Get("noNewPrivileges", out.no_new_privileges);
  fields.Get("oomScoreAdj", out.oom_score_adj);
  if (out.args.empty()) {
    fields.Fail("args", "needs at least one argument");
  }
  if (out.cwd.empty() || out.cwd.front() != '/') {
    fields.Fail("cwd", "must be an absolute path");
  }
  fields.Refuse("ioPriority", "I/O priorities are");
  fields.Refuse("scheduler", "scheduler settings are");
  fields.Refuse("execCPUAffinity", "CPU affinity of exec is");
}

void ReadFields(const Fields& fields, Root& out) {
  fields.Require("path", out.path);
  fields.Get("readonly", out.readonly);
}

void ReadFields(const Fields& fields, Mount& out) {
  fields.Require("destination", out.destination);
  fields.Get("type", out.type);
  fields.Get("source", out.source);
  fields.Get("options", out.options);
  if (out.destination.empty()) {
    fields.Fail("destination", "must not be empty");
  }
  fields.Refuse("uidMappings", "id-mapped mounts are");
  fields.Refuse("gidMappings", "id-mapped mounts are");
}

void ReadFields(const Fields& fields, Namespace& out) {
  fields.Require("type", out.type);
  fields.Get("path", out.path);
}

void ReadFields(const Fields& fields, IdMapping& out) {
  fields.Get("containerID", out.container_id);
  fields.Get("hostID", out.host_id);
  fields.Get("size", out.size);
}

void ReadFields(const Fields& fields, Device& out) {
  fields.Require("type", out.type);
  fields.Require("path", out.path);
  fields.Get("major", out.major);
  fields.Get("minor", out.minor);
  fields.Get("fileMode", out.file_mode);
  fields.Get("uid", out.uid);
  fields.Get("gid", out.gid);
  if (out.type.size() != 1 || std::string_view("cubp").find(out.type) == std::string_view::npos) {
    fields.Fail("type", "expected c, u, b or p");
  }
}

void ReadFields(const Fields& fields, DeviceRule& out) {
  fields.Get("allow", out.allow);
  fields.Get("type", out.type);
  fields.Get("major", out.major);
  fields.Get("minor", out.minor);
  fields.Get("access", out.access);
  if (out.type.empty()) {
    out.type = "a";
  }
  if (out.type != "a" && out.type != "b" && out.type != "c") {
    fields.Fail("type", "expected a, b or c");
  }
  if (out.access.find_first_not_of("rwm") != std::string::npos) {
    fields.Fail("access", "expected letters of \"rwm\"");
  }
  if (out.access.empty()) {
    out.access = "rwm";
  }
}

void ReadFields(const Fields& fields, CpuResources& out) {
  fields.Get("shares", out.shares);
  fields.Get("quota", out.quota);
  fields.Get("period", out.period);
  fields.Get("cpus", out.cpus);
  fields.Get("mems", out.mems);
  fields.Refuse("realtimeRuntime", "real-time CPU limits are");
  fields.Refuse("realtimePeriod", "real-time CPU limits are");
  fields.Refuse("burst", "CPU burst is");
  fields.Refuse("idle", "idle CPU scheduling is");
}

void ReadFields(const Fields& fields, MemoryResources& out) {
  fields.Get("limit", out.limit);
  fields.Get("reservation", out.reservation);
  fields.Get("swap", out.swap);
  fields.Refuse("kernel", "kernel memory limits are");
  fields.Refuse("kernelTCP", "kernel memory limits are");
  fields.Refuse("swappiness", "swappiness (cgroup v2 has none) is");
  fields.Refuse("disableOOMKiller", "disabling the OOM killer (cgroup v2 cannot) is");
}

struct PidsResources {
  std::optional<int64_t> limit;
};

void ReadFields(const Fields& fields, PidsResources& out) { fields.Get("limit", out.limit); }

void ReadFields(const Fields& fields, HugepageLimit& out) {
  fields.Require("pageSize", out.page_size);
  fields.Require("limit", out.limit);
  if (out.page_size.empty() ||
      out.page_size.find_first_not_of("0123456789KMGTB") != std::string::npos) {
    fields.Fail("pageSize", "expected a size such as 2MB");
  }
}

void ReadFields(const Fields& fields, Resources& out) {
  fields.Get("devices", out.devices);
  fields.Get("cpu", out.cpu);
  fields.Get("memory", out.memory);
  PidsResources pids;
  fields.Get("pids", pids);
  out.pids_limit = pids.limit;
  fields.Get("unified", out.unified);
  fields.Refuse("blockIO", "block I/O limits are");
  fields.Get("hugepageLimits", out.hugepage_limits);
  fields.Refuse("network", "network class limits are");
  fields.Refuse("rdma", "RDMA limits are");
}

void ReadFields(const Fields& fields, SeccompArg& out) {
  fields.Require("index", out.index);
  fields.Require("value", out.value);
  fields.Get("valueTwo", out.value_two);
  fields.Require("op", out.op);
}

void ReadFields(const Fields& fields, SeccompRule& out) {
  fields.Require("names", out.names);
  fields.Require("action", out.action);
  fields.Get("errnoRet", out.errno_ret);
  fields.Get("args", out.args);
}

void ReadFields(const Fields& fields, Seccomp& out) {
  fields.Require("defaultAction", out.default_action);
  fields.Get("defaultErrnoRet", out.default_errno_ret);
  fields.Get("architectures", out.architectures);
  fields.Get("flags", out.flags);
  fields.Get("syscalls", out.rules);
  fields.Refuse("listenerPath", "seccomp notification is");
  fields.Refuse("listenerMetadata", "seccomp notification is");
}

void ReadFields(const Fields& fields, Linux& out) {
  fields.Get("namespaces", out.namespaces);
  fields.Get("uidMappings", out.uid_mappings);
  fields.Get("gidMappings", out.gid_mappings);
  fields.Get("devices", out.devices);
  fields.Get("cgroupsPath", out.cgroups_path);
  fields.Get("resources", out.resources);
  fields.Get("seccomp", out.seccomp);
  fields.Get("sysctl", out.sysctl);
  fields.Get("rootfsPropagation", out.rootfs_propagation);
  fields.Get("maskedPaths", out.masked_paths);
  fields.Get("readonlyPaths", out.readonly_paths);
  fields.Refuse("intelRdt", "Intel RDT is");
  fields.Refuse("personality", "execution domains are");
  fields.Refuse("timeOffsets", "offsets of a time namespace are");
  fields.Refuse("netDevices", "moving of network devices is");
}

void ReadFields(const Fields& fields, Hook& out) {
  fields.Require("path", out.path);
  fields.Get("args", out.args);
  fields.Get("env", out.env);
  fields.Get("timeout", out.timeout);
  if (!out.path.starts_with('/')) {
    fields.Fail("path", "must be an absolute path");
  }
  if (out.timeout && *out.timeout <= 0) {
    fields.Fail("timeout", "must be more than zero");
  }
}

void ReadFields(const Fields& fields, Hooks& out) {
  fields.Get("prestart", out.prestart);
  fields.Get("createRuntime", out.create_runtime);
  fields.Get("createContainer", out.create_container);
  fields.Get("startContainer", out.start_container);
  fields.Get("poststart", out.poststart);
  fields.Get("poststop", out.poststop);
}

void ReadFields(const Fields& fields, Spec& out) {
  fields.Require("ociVersion", out.version);
  fields.Require("root", out.root);
  fields.Get("process", out.process);
  fields.Get("hostname", out.hostname);
  fields.Get("domainname", out.domainname);
  fields.Get("mounts", out.mounts);
  fields.Get("annotations", out.annotations);
  fields.Get("linux", out.linux_);
  if (!out.version.starts_with("1.")) {
    fields.Fail("ociVersion", "expected version 1 of the specification");
  }
  fields.Get("hooks", out.hooks);
  fields.Refuse("windows", "Windows containers are");
  fields.Refuse("solaris", "Solaris containers are");
  fields.Refuse("zos", "z/OS containers are");
  fields.Refuse("vm", "a virtual machine's own settings are");
}

// Structs: whatever has a ReadFields.
template <typename T>
void Read(Outcome& outcome, const json& value, const std::string& path, T& out) {
  const Fields fields(outcome, value, path);
  if (outcome.ok()) {
    ReadFields(fields, out);
  }
}

template <typename T>
void Read(Outcome& outcome, const json& value, const std::string& path, std::optional<T>& out) {
  Read(outcome, value, path, out.emplace());
}

template <typename T>
void Read(Outcome& outcome, const json& value, const std::string& path, std::vector<T>& out) {
  if (!value.is_array()) {
    return outcome.Malformed(path, "expected an array");
  }
  out.clear();
  out.reserve(value.size());
  for (const auto& element : value) {
    const std::string place = fmt::format("{}[{}]", path, out.size());
    Read(outcome, element, place, out.emplace_back());
  }
}

template <typename T>
void Fields::Get(const char* name, T& out) const {
  if (const json* field = Find(name)) {
    Read(outcome_, *field, PathOf(name), out);
  }
}

template <typename T>
Result<T> Parse(std::string_view text, const char* document) {
  Outcome outcome(document);
  if (text.size() > kMaxBytes) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: longer than {} bytes", document, kMaxBytes);
  }
  const json value = json::parse(text, nullptr, false);
  if (value.is_discarded()) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: not valid JSON", document);
  }
  T out;
  Read(outcome, value, "", out);
  if (!outcome.ok()) {
    return tl::unexpected<Error>(outcome.TakeError());
  }
  return out;
}

}  // namespace

Result<Spec> ParseSpec(std::string_view json) { return Parse<Spec>(json, "config.json"); }

Result<Process> ParseProcess(std::string_view json) { return Parse<Process>(json, "process"); }

Result<Resources> ParseResources(std::string_view json) {
  return Parse<Resources>(json, "linux.resources");
}

}  // namespace bulkhead::oci
