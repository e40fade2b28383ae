#include "oci/spec_check.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "oci/id_mapping.h"
#include "oci/mount_options.h"
#include "oci/words.h"

namespace bulkhead::oci {
namespace {

const Namespace* FindNamespace(const Spec& spec, std::string_view type) {
  const auto& all = spec.linux_.namespaces;
  const auto found = std::find_if(all.begin(), all.end(),
                                  [&](const Namespace& entry) { return entry.type == type; });
  return found == all.end() ? nullptr : &*found;
}

Status CheckNamespaces(const Spec& spec) {
  for (const Namespace& entry : spec.linux_.namespaces) {
    if (FindNamespace(spec, entry.type) != &entry) {
      return MakeError(ErrorCode::kInvalidArgument, "linux.namespaces: \"{}\" stands there twice",
                       entry.type);
    }
  }
  return {};
}

Status CheckNames(const Spec& spec) {
  for (const auto& [field, value] :
       {std::pair("hostname", &spec.hostname), std::pair("domainname", &spec.domainname)}) {
    if (!value->empty() && FindNamespace(spec, "uts") == nullptr) {
      return MakeError(ErrorCode::kInvalidArgument, "{}: needs a UTS namespace", field);
    }
  }
  return {};
}

Status CheckTimeOffsets(const Spec& spec) {
  if (spec.linux_.time_offsets.empty()) {
    return {};
  }
  const Namespace* time = FindNamespace(spec, "time");
  if (time == nullptr || !time->path.empty()) {
    return MakeError(ErrorCode::kInvalidArgument, "linux.timeOffsets: need a new time namespace");
  }
  return {};
}

// A new user namespace has mappings, of root at least, and nothing else has any.
Status CheckUserNamespace(const Spec& spec) {
  const Namespace* user = FindNamespace(spec, "user");
  for (const auto& [field, mappings] : {std::pair("uidMappings", &spec.linux_.uid_mappings),
                                        std::pair("gidMappings", &spec.linux_.gid_mappings)}) {
    if (user == nullptr && !mappings->empty()) {
      return MakeError(ErrorCode::kInvalidArgument, "linux.{}: without a user namespace", field);
    }
    const bool needed = user != nullptr && (user->path.empty() || !mappings->empty());
    if (needed && !OutsideId(*mappings, 0)) {
      return MakeError(ErrorCode::kInvalidArgument,
                       "linux.{}: the container's root (0) is not mapped", field);
    }
  }
  return {};
}

// A mount has both kinds of mappings or none, and is a bind then.
Status CheckIdMap(const Mount& mount, bool has_default) {
  const MountOptions options = TRY(ParseMountOptions(mount.options));
  if (mount.uid_mappings.empty() != mount.gid_mappings.empty()) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "uidMappings and gidMappings: one without the other");
  }
  if (mount.uid_mappings.empty() && !options.id_map) {
    return {};
  }
  if (!IsBind(mount)) {
    return MakeError(ErrorCode::kInvalidArgument, "only bind mounts can be id-mapped");
  }
  if (mount.uid_mappings.empty() && !has_default) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "\"idmap\" without mappings of its own or of the container");
  }
  return {};
}

Status CheckIdMaps(const Spec& spec) {
  const bool has_default = !spec.linux_.uid_mappings.empty() && !spec.linux_.gid_mappings.empty();
  for (const Mount& mount : spec.mounts) {
    TRY_AS(CheckIdMap(mount, has_default), "mounts: {}", mount.destination);
  }
  return {};
}

Status CheckSysctl(const Spec& spec, const std::string& name) {
  const std::string path = TRY_AS(SysctlPath(name), "linux.sysctl");
  const std::string_view type = NamespaceOfSysctl(path);
  if (type.empty()) {
    return {};  // the kernel is the pod's own
  }
  if (FindNamespace(spec, type) == nullptr) {
    return MakeError(ErrorCode::kInvalidArgument, "linux.sysctl: \"{}\" needs a namespace: {}",
                     name, type);
  }
  if (path == "kernel/hostname") {
    return MakeError(ErrorCode::kInvalidArgument,
                     "linux.sysctl: \"{}\" has a field of its own: hostname", name);
  }
  return {};
}

}  // namespace

std::string_view NamespaceOfSysctl(std::string_view path) {
  constexpr std::array<std::string_view, 8> kIpc{
      "kernel/msgmax", "kernel/msgmnb", "kernel/msgmni", "kernel/sem",
      "kernel/shmall", "kernel/shmmax", "kernel/shmmni", "kernel/shm_rmid_forced"};
  if (path.starts_with("fs/mqueue/") || std::find(kIpc.begin(), kIpc.end(), path) != kIpc.end()) {
    return "ipc";
  }
  if (path.starts_with("net/")) {
    return "network";
  }
  return path == "kernel/domainname" || path == "kernel/hostname" ? "uts" : "";
}

Status CheckSpec(const Spec& spec) {
  TRY(CheckNamespaces(spec));
  TRY(CheckNames(spec));
  TRY(CheckTimeOffsets(spec));
  TRY(CheckUserNamespace(spec));
  TRY(CheckIdMaps(spec));
  for (const auto& [name, value] : spec.linux_.sysctl) {
    TRY(CheckSysctl(spec, name));
  }
  return {};
}

}  // namespace bulkhead::oci
