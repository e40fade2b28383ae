// Mounts of the host that are shown somewhere else.
#pragma once

#include <sched.h>

#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "base/result.h"
#include "base/sys.h"
#include "base/unique_fd.h"
#include "oci/spec.h"

namespace bulkhead::shim {

// Whom files are shown to belong to: ids of the disk, and those that stand for them.
struct IdMaps {
  std::vector<oci::IdMapping> uids;
  std::vector<oci::IdMapping> gids;

  // A server that makes files as root, and gives them away then, must be somebody: an id that
  // nobody has on the disk.
  void AdmitRoot();
  std::string Text() const;
};

// What the body tells where the paths of another mount namespace are; negative: of our own.
template <typename Body>
std::invoke_result_t<Body> InView(int view, const Body& body) {
  if (view < 0) {
    return body();
  }
  std::invoke_result_t<Body> result = MakeError(ErrorCode::kInternal, "not begun");
  const auto enter = [&]() -> std::invoke_result_t<Body> {
    TRY(sys::Unshare(CLONE_FS));
    TRY(sys::SetNs(view, CLONE_NEWNS));
    return body();
  };
  std::thread([&] { result = enter(); }).join();  // its mount namespace ends with it
  return result;
}

// A copy of the mount at a path, not attached anywhere. No peer of the original's: what is mounted
// there later arrives, and unmounting the copy unmounts nothing of the host's.
Result<UniqueFd> CopyTree(const std::string& path, bool recursive);
// The path that is open already; `name` is for errors.
Result<UniqueFd> CopyTree(const UniqueFd& source, bool recursive, const std::string& name);

// MS_SLAVE or MS_PRIVATE: whether what is mounted on the host later still arrives.
Status SetPropagation(const UniqueFd& tree, bool recursive, unsigned long propagation);

// Before it is attached: a mount that others have got already does not change with ours.
Status SetReadonly(const UniqueFd& tree, bool recursive);
// Only before it is attached. `source` is for errors.
Status SetIdMaps(const UniqueFd& tree, bool recursive, const IdMaps& maps,
                 const std::string& source);

Status AttachTree(const UniqueFd& tree, const std::string& target);
Status AttachTree(const UniqueFd& tree, const UniqueFd& target);

}  // namespace bulkhead::shim
