#include "shim/mount_tree.h"

#include <fcntl.h>
#include <sys/mount.h>

#include "base/sys.h"

namespace bulkhead::shim {
namespace {

Status SetAttributes(const UniqueFd& tree, bool recursive, mount_attr attributes) {
  const unsigned depth = recursive ? AT_RECURSIVE : 0;
  return sys::CheckCall(
      ::mount_setattr(tree.get(), "", AT_EMPTY_PATH | depth, &attributes, sizeof(attributes)),
      "mount_setattr");
}

}  // namespace

Result<UniqueFd> CopyTree(const std::string& path, bool recursive) {
  const unsigned depth = recursive ? AT_RECURSIVE : 0;
  UniqueFd tree(::open_tree(AT_FDCWD, path.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | depth));
  TRY(sys::CheckCall(tree.get(), "{}", path));
  TRY_AS(SetPropagation(tree, recursive, MS_SLAVE), "{}", path);
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
