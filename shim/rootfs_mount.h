// A rootfs as containerd hands it over: mounts that are yet to be made.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "shim/mount_tree.h"

namespace bulkhead::shim {

// As in containerd's types.Mount and mount(8).
struct RootfsMount {
  std::string type;
  std::string source;
  std::vector<std::string> options;
};

// A folder where mounts are put together; it goes, and they with it.
class Workbench {
 public:
  static Result<Workbench> Make(std::string path);
  Workbench(Workbench&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  Workbench& operator=(Workbench&&) = delete;
  ~Workbench();

  const std::string& path() const { return path_; }

 private:
  explicit Workbench(std::string path) : path_(std::move(path)) {}

  std::string path_;  // empty: moved from
};

// containerd's "uidmap=0:1000:10,..." and "gidmap=...", taken out of the options; both or neither.
Result<std::optional<IdMaps>> TakeIdMaps(std::vector<std::string>& options);

// With the ids of "uidmap=" and "gidmap=": of an overlay's lower folders, whose upper one is
// written to with the ids as they are, or of anything else's whole. `workbench`: a prefix of paths
// for it.
Status MountRootfs(const RootfsMount& mount, const std::string& target,
                   const std::string& workbench);

}  // namespace bulkhead::shim
