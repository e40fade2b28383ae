// What of the host the guest sees: one shared folder per pod, in which each container's rootfs and
// volumes are mounted. All mounts are made in this process's own mount namespace: they go with it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "oci/spec.h"
#include "shim/rootfs_mount.h"
#include "shim/share_root.h"
#include "shim/shared_volumes.h"

namespace bulkhead::shim {

inline constexpr char kShareTag[] = "bulkhead";
inline constexpr std::string_view kGuestPrefix = "guest:";    // of a source that is in the guest
inline constexpr char kGuestShare[] = "/run/bulkhead/share";  // its mount point in the guest

// A mount namespace of our own; later mounts of the host still arrive. Returns the one it leaves.
Result<UniqueFd> EnterOwnMountNamespace();
// Back into `host`, for the calling thread alone: there none of our mounts exist, so that removing
// the pod's folders can never reach into them.
Status LeaveToMountNamespace(const UniqueFd& host);

// What one container has in the tree; unmounted and removed with this.
class SharedFolder {
 public:
  // `name` is made; `root` outlives it.
  static Result<SharedFolder> Make(const ShareRoot& root, std::string name);

  SharedFolder(SharedFolder&& other) noexcept
      : root_(std::exchange(other.root_, nullptr)),
        name_(std::move(other.name_)),
        volumes_(std::move(other.volumes_)) {}
  SharedFolder& operator=(SharedFolder&& other) noexcept {
    std::swap(root_, other.root_);
    std::swap(name_, other.name_);
    std::swap(volumes_, other.volumes_);
    return *this;
  }
  SharedFolder(const SharedFolder&) = delete;
  SharedFolder& operator=(const SharedFolder&) = delete;
  ~SharedFolder();

  std::string path() const { return root_->PathOf(name_); }

 private:
  friend class SharedTree;
  SharedFolder(const ShareRoot& root, std::string name) : root_(&root), name_(std::move(name)) {}

  const ShareRoot* root_;  // null: moved from
  std::string name_;
  std::vector<std::shared_ptr<SharedVolume>> volumes_;
};

// Its folders end before it.
class SharedTree {
 public:
  // An existing folder becomes the tree's root. `by_root`: its server makes files as root and gives
  // them away, as that of 9p does.
  static Result<SharedTree> Create(const std::string& path, bool by_root = false);

  SharedTree(SharedTree&& other) noexcept
      : root_(std::move(other.root_)),
        count_(other.count_.load()),
        volumes_(std::move(other.volumes_)) {}
  SharedTree& operator=(SharedTree&&) = delete;
  SharedTree(const SharedTree&) = delete;
  SharedTree& operator=(const SharedTree&) = delete;
  ~SharedTree() = default;

  const std::string& path() const { return root_->path(); }

  // A container's folder: mounts its rootfs (in order; none: `bundle_rootfs` is bound; neither: it
  // is in the guest already, where the spec says) and the host sources of its bind mounts, and
  // rewrites the spec to the guest's paths. Sources that begin with "guest:" are paths in the guest
  // already. Sources that another container has in the same way are mounted once for both. The ids
  // of files are mapped here: the guest is told nothing of it. On failure nothing of the container
  // stays mounted. `view`: the mount namespace in which paths of the host are meant (-1: our own),
  // since what a client mounted there need not have reached ours. `fixed`: the guest cannot write
  // to the rootfs.
  Result<SharedFolder> Add(const std::vector<RootfsMount>& rootfs, const std::string& bundle_rootfs,
                           oci::Spec& spec, int view = -1, bool fixed = false);

 private:
  explicit SharedTree(std::unique_ptr<ShareRoot> root) : root_(std::move(root)) {}

  Status AddBind(oci::Mount& mount, const oci::Linux& defaults, int view, SharedFolder& folder);
  std::string GuestPath(const std::string& path) const;  // of what is below the tree

  std::unique_ptr<ShareRoot> root_;
  std::atomic<uint64_t> count_ = 0;  // of folders ever made; several are at once
  std::unique_ptr<SharedVolumes> volumes_;
};

}  // namespace bulkhead::shim
