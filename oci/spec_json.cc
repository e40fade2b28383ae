// Spec and Process to JSON: the other half of spec.cc.
#include <nlohmann/json.hpp>

#include "oci/spec.h"

namespace bulkhead::oci {
namespace {

using nlohmann::json;

template <typename T>
void PutOptional(json& object, const char* name, const std::optional<T>& value) {
  if (value) {
    object[name] = *value;
  }
}

// A vector, map or string that is left out when it is empty.
template <typename T>
void PutNonEmpty(json& object, const char* name, const T& value) {
  if (!value.empty()) {
    object[name] = value;
  }
}

template <typename T, typename F>
void PutList(json& object, const char* name, const std::vector<T>& list, F to_json) {
  if (list.empty()) {
    return;
  }
  json& array = object[name] = json::array();
  for (const T& element : list) {
    array.push_back(to_json(element));
  }
}

json ToJson(const Scheduler& scheduler) {
  json out = {{"policy", scheduler.policy},     {"nice", scheduler.nice},
              {"priority", scheduler.priority}, {"runtime", scheduler.runtime},
              {"deadline", scheduler.deadline}, {"period", scheduler.period}};
  PutNonEmpty(out, "flags", scheduler.flags);
  return out;
}

json ToJson(const Process& process) {
  json user = {{"uid", process.user.uid}, {"gid", process.user.gid}};
  PutOptional(user, "umask", process.user.umask);
  PutNonEmpty(user, "additionalGids", process.user.additional_gids);
  json out = {{"user", user}, {"args", process.args}, {"cwd", process.cwd}};
  PutNonEmpty(out, "env", process.env);
  if (process.terminal) {
    out["terminal"] = true;
  }
  if (const auto& size = process.console_size) {
    out["consoleSize"] = {{"height", size->height}, {"width", size->width}};
  }
  if (const auto& sets = process.capabilities) {
    json& capabilities = out["capabilities"] = json::object();
    PutNonEmpty(capabilities, "bounding", sets->bounding);
    PutNonEmpty(capabilities, "effective", sets->effective);
    PutNonEmpty(capabilities, "inheritable", sets->inheritable);
    PutNonEmpty(capabilities, "permitted", sets->permitted);
    PutNonEmpty(capabilities, "ambient", sets->ambient);
  }
  PutList(out, "rlimits", process.rlimits, [](const Rlimit& limit) {
    return json{{"type", limit.type}, {"soft", limit.soft}, {"hard", limit.hard}};
  });
  if (process.no_new_privileges) {
    out["noNewPrivileges"] = true;
  }
  PutOptional(out, "oomScoreAdj", process.oom_score_adj);
  if (const auto& scheduler = process.scheduler) {
    out["scheduler"] = ToJson(*scheduler);
  }
  if (const auto& priority = process.io_priority) {
    out["ioPriority"] = {{"class", priority->io_class}, {"priority", priority->priority}};
  }
  if (const auto& affinity = process.exec_cpu_affinity) {
    out["execCPUAffinity"] = {{"initial", affinity->initial}, {"final", affinity->final_}};
  }
  return out;
}

json ToJson(const Hook& hook) {
  json out = {{"path", hook.path}};
  PutNonEmpty(out, "args", hook.args);
  PutNonEmpty(out, "env", hook.env);
  if (hook.timeout) {
    out["timeout"] = *hook.timeout;
  }
  return out;
}

json ToJson(const IdMapping& mapping) {
  return {
      {"containerID", mapping.container_id}, {"hostID", mapping.host_id}, {"size", mapping.size}};
}

void PutMappings(json& out, const auto& of) {
  const auto each = [](const IdMapping& entry) { return ToJson(entry); };
  PutList(out, "uidMappings", of.uid_mappings, each);
  PutList(out, "gidMappings", of.gid_mappings, each);
}

json ToJson(const Mount& mount) {
  json out = {{"destination", mount.destination}};
  PutNonEmpty(out, "type", mount.type);
  PutNonEmpty(out, "source", mount.source);
  PutNonEmpty(out, "options", mount.options);
  PutMappings(out, mount);
  return out;
}

json ToJson(const Device& device) {
  json out = {{"type", device.type},
              {"path", device.path},
              {"major", device.major},
              {"minor", device.minor}};
  PutOptional(out, "fileMode", device.file_mode);
  PutOptional(out, "uid", device.uid);
  PutOptional(out, "gid", device.gid);
  return out;
}

json ToJson(const DeviceRule& rule) {
  json out = {{"allow", rule.allow}, {"type", rule.type}, {"access", rule.access}};
  PutOptional(out, "major", rule.major);
  PutOptional(out, "minor", rule.minor);
  return out;
}

json ToJson(const BlockIo& io) {
  json out = json::object();
  if (io.weight != 0) {
    out["weight"] = io.weight;
  }
  PutList(out, "weightDevice", io.weight_devices, [](const WeightDevice& device) {
    return json{{"major", device.major}, {"minor", device.minor}, {"weight", device.weight}};
  });
  const auto throttle = [](const ThrottleDevice& device) {
    return json{{"major", device.major}, {"minor", device.minor}, {"rate", device.rate}};
  };
  PutList(out, "throttleReadBpsDevice", io.read_bps, throttle);
  PutList(out, "throttleWriteBpsDevice", io.write_bps, throttle);
  PutList(out, "throttleReadIOPSDevice", io.read_iops, throttle);
  PutList(out, "throttleWriteIOPSDevice", io.write_iops, throttle);
  return out;
}

json ToJson(const Resources& resources) {
  json out = json::object();
  PutList(out, "devices", resources.devices, [](const DeviceRule& rule) { return ToJson(rule); });
  json cpu = json::object();
  PutOptional(cpu, "shares", resources.cpu.shares);
  PutOptional(cpu, "quota", resources.cpu.quota);
  PutOptional(cpu, "period", resources.cpu.period);
  PutNonEmpty(cpu, "cpus", resources.cpu.cpus);
  PutNonEmpty(cpu, "mems", resources.cpu.mems);
  PutOptional(cpu, "burst", resources.cpu.burst);
  PutOptional(cpu, "idle", resources.cpu.idle);
  PutNonEmpty(out, "cpu", cpu);
  json memory = json::object();
  PutOptional(memory, "limit", resources.memory.limit);
  PutOptional(memory, "reservation", resources.memory.reservation);
  PutOptional(memory, "swap", resources.memory.swap);
  if (resources.memory.check_before_update) {
    memory["checkBeforeUpdate"] = true;
  }
  PutNonEmpty(out, "memory", memory);
  PutNonEmpty(out, "blockIO", ToJson(resources.block_io));
  if (resources.pids_limit) {
    out["pids"] = {{"limit", *resources.pids_limit}};
  }
  json hugepages = json::array();
  for (const HugepageLimit& limit : resources.hugepage_limits) {
    hugepages.push_back({{"pageSize", limit.page_size}, {"limit", limit.limit}});
  }
  PutNonEmpty(out, "hugepageLimits", hugepages);
  PutNonEmpty(out, "unified", resources.unified);
  return out;
}

json ToJson(const SeccompRule& rule) {
  json out = {{"names", rule.names}, {"action", rule.action}};
  PutOptional(out, "errnoRet", rule.errno_ret);
  PutList(out, "args", rule.args, [](const SeccompArg& arg) {
    return json{
        {"index", arg.index}, {"value", arg.value}, {"valueTwo", arg.value_two}, {"op", arg.op}};
  });
  return out;
}

json ToJson(const Seccomp& seccomp) {
  json out = {{"defaultAction", seccomp.default_action}};
  PutOptional(out, "defaultErrnoRet", seccomp.default_errno_ret);
  PutNonEmpty(out, "architectures", seccomp.architectures);
  PutNonEmpty(out, "flags", seccomp.flags);
  PutList(out, "syscalls", seccomp.rules, [](const SeccompRule& rule) { return ToJson(rule); });
  return out;
}

json ToJson(const Linux& section) {
  json out = json::object();
  PutList(out, "namespaces", section.namespaces, [](const Namespace& ns) {
    json entry = {{"type", ns.type}};
    PutNonEmpty(entry, "path", ns.path);
    return entry;
  });
  PutMappings(out, section);
  PutList(out, "devices", section.devices, [](const Device& device) { return ToJson(device); });
  PutNonEmpty(out, "cgroupsPath", section.cgroups_path);
  PutNonEmpty(out, "resources", ToJson(section.resources));
  if (section.seccomp) {
    out["seccomp"] = ToJson(*section.seccomp);
  }
  PutNonEmpty(out, "sysctl", section.sysctl);
  PutNonEmpty(out, "rootfsPropagation", section.rootfs_propagation);
  PutNonEmpty(out, "maskedPaths", section.masked_paths);
  PutNonEmpty(out, "readonlyPaths", section.readonly_paths);
  if (!section.personality.empty()) {
    out["personality"] = {{"domain", section.personality}};
  }
  for (const auto& [clock, offset] : section.time_offsets) {
    out["timeOffsets"][clock] = {{"secs", offset.secs}, {"nanosecs", offset.nanosecs}};
  }
  return out;
}

// Names and arguments are bytes to the kernel: what is not UTF-8 becomes U+FFFD, never an
// exception.
std::string Dump(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace

std::string SpecToJson(const Spec& spec) {
  json out = {{"ociVersion", spec.version},
              {"root", {{"path", spec.root.path}, {"readonly", spec.root.readonly}}}};
  if (spec.process) {
    out["process"] = ToJson(*spec.process);
  }
  PutNonEmpty(out, "hostname", spec.hostname);
  PutNonEmpty(out, "domainname", spec.domainname);
  PutList(out, "mounts", spec.mounts, [](const Mount& mount) { return ToJson(mount); });
  PutNonEmpty(out, "annotations", spec.annotations);
  if (!spec.hooks.start_container.empty()) {
    PutList(out["hooks"], "startContainer", spec.hooks.start_container,
            [](const Hook& hook) { return ToJson(hook); });
  }
  PutNonEmpty(out, "linux", ToJson(spec.linux_));
  return Dump(out);
}

std::string ProcessToJson(const Process& process) { return Dump(ToJson(process)); }

std::string ResourcesToJson(const Resources& resources) { return Dump(ToJson(resources)); }

}  // namespace bulkhead::oci
