#include "oci/id_mapping.h"

#include <algorithm>

#include "oci/mount_options.h"

namespace bulkhead::oci {
namespace {

template <typename... Args>
Status Bad(fmt::format_string<Args...> format, Args&&... args) {
  return MakeError(ErrorCode::kInvalidArgument, format, std::forward<Args>(args)...);
}

Status CheckNamespace(const Linux& section) {
  const auto& all = section.namespaces;
  const auto user = std::find_if(all.begin(), all.end(),
                                 [](const Namespace& entry) { return entry.type == "user"; });
  for (const auto& [field, mappings] : {std::pair("uidMappings", &section.uid_mappings),
                                        std::pair("gidMappings", &section.gid_mappings)}) {
    if (user == all.end() && !mappings->empty()) {
      return Bad("linux.{}: without a user namespace", field);
    }
    const bool needed = user != all.end() && (user->path.empty() || !mappings->empty());
    if (needed && !OutsideId(*mappings, 0)) {
      return Bad("linux.{}: the container's root (0) is not mapped", field);
    }
  }
  return {};
}

Status CheckMount(const Mount& mount, bool has_default) {
  const MountOptions options = TRY(ParseMountOptions(mount.options));
  if (mount.uid_mappings.empty() != mount.gid_mappings.empty()) {
    return Bad("uidMappings and gidMappings: one without the other");
  }
  if (mount.uid_mappings.empty() && !options.id_map) {
    return {};
  }
  if (!IsBind(mount)) {
    return Bad("only bind mounts can be id-mapped");
  }
  if (mount.uid_mappings.empty() && !has_default) {
    return Bad("\"idmap\" without mappings of its own or of the container");
  }
  return {};
}

}  // namespace

std::string MapText(const std::vector<IdMapping>& mappings) {
  std::string text;
  for (const IdMapping& mapping : mappings) {
    text += fmt::format("{} {} {}\n", mapping.container_id, mapping.host_id, mapping.size);
  }
  return text;
}

std::optional<uint32_t> OutsideId(const std::vector<IdMapping>& mappings, uint32_t id) {
  for (const IdMapping& mapping : mappings) {
    if (id >= mapping.container_id && id - mapping.container_id < mapping.size) {
      return mapping.host_id + (id - mapping.container_id);
    }
  }
  return std::nullopt;
}

Status CheckMappings(const Spec& spec) {
  TRY(CheckNamespace(spec.linux_));
  const bool has_default = !spec.linux_.uid_mappings.empty() && !spec.linux_.gid_mappings.empty();
  for (const Mount& mount : spec.mounts) {
    TRY_AS(CheckMount(mount, has_default), "mounts: {}", mount.destination);
  }
  return {};
}

}  // namespace bulkhead::oci
