#include "shim/mount_tree.h"

#include <fcntl.h>
#include <sys/mount.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>

#include "base/sys.h"
#include "base/user_namespace.h"
#include "oci/id_mapping.h"

namespace bulkhead::shim {
namespace {

Status SetAttributes(const UniqueFd& tree, bool recursive, mount_attr attributes) {
  const unsigned depth = recursive ? AT_RECURSIVE : 0;
  return sys::CheckCall(
      ::mount_setattr(tree.get(), "", AT_EMPTY_PATH | depth, &attributes, sizeof(attributes)),
      "mount_setattr");
}

Result<UniqueFd> OpenTree(int dir, const std::string& path, unsigned flags,
                          const std::string& name) {
  UniqueFd tree(::open_tree(dir, path.c_str(), OPEN_TREE_CLOEXEC | flags));
  TRY(sys::CheckCall(tree.get(), "{}", name));
  return tree;
}

bool MapsToRoot(const oci::IdMapping& mapping) { return mapping.host_id == 0 && mapping.size != 0; }

void AddRoot(std::vector<oci::IdMapping>& mappings) {
  if (std::any_of(mappings.begin(), mappings.end(), MapsToRoot)) {
    return;
  }
  std::vector<uint32_t> candidates{UINT32_MAX - 1};  // the last that is an id
  for (const oci::IdMapping& mapping : mappings) {
    candidates.push_back(mapping.container_id - 1);
  }
  for (const uint32_t nobody : candidates) {
    if (nobody != UINT32_MAX && !oci::OutsideId(mappings, nobody)) {
      mappings.push_back({nobody, 0, 1});
      return;
    }
  }
}

}  // namespace

void IdMaps::AdmitRoot() {
  AddRoot(uids);
  AddRoot(gids);
}

std::string IdMaps::Text() const {
  return fmt::format("{}/{}", oci::MapText(uids), oci::MapText(gids));
}

Result<UniqueFd> CopyTree(const std::string& path, bool recursive) {
  return CopyTree(TRY(OpenTree(AT_FDCWD, path, 0, path)), recursive, path);
}

Result<UniqueFd> CopyTree(const UniqueFd& source, bool recursive, const std::string& name) {
  const unsigned depth = recursive ? AT_RECURSIVE : 0;
  UniqueFd tree = TRY(OpenTree(source.get(), "", AT_EMPTY_PATH | OPEN_TREE_CLONE | depth, name));
  TRY_AS(SetPropagation(tree, recursive, MS_SLAVE), "{}", name);
  return tree;
}

Status SetPropagation(const UniqueFd& tree, bool recursive, unsigned long propagation) {
  mount_attr attributes{};
  attributes.propagation = propagation;
  return SetAttributes(tree, recursive, attributes);
}

Status SetReadonly(const UniqueFd& tree, bool recursive) {
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_RDONLY;
  return SetAttributes(tree, recursive, attributes);
}

Status SetIdMaps(const UniqueFd& tree, bool recursive, const IdMaps& maps,
                 const std::string& source) {
  const UniqueFd ids = TRY_AS(MakeUserNamespace(oci::MapText(maps.uids), oci::MapText(maps.gids)),
                              "id mappings of {}", source);
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_IDMAP;
  attributes.userns_fd = static_cast<uint64_t>(ids.get());
  const Status set = SetAttributes(tree, recursive, attributes);
  if (!set && set.error().errnum() == EINVAL) {
    return MakeError(ErrorCode::kFailedPrecondition,
                     "id mappings: the file system at {}{} does not support them", source,
                     recursive ? ", or one below it," : "");
  }
  TRY_AS(set, "id mappings of {}", source);
  return {};
}

Status AttachTree(const UniqueFd& tree, const std::string& target) {
  return sys::CheckCall(
      ::move_mount(tree.get(), "", AT_FDCWD, target.c_str(), MOVE_MOUNT_F_EMPTY_PATH),
      "mount at {}", target);
}

Status AttachTree(const UniqueFd& tree, const UniqueFd& target) {
  return sys::CheckCall(::move_mount(tree.get(), "", target.get(), "",
                                     MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH),
                        "move_mount");
}

}  // namespace bulkhead::shim
