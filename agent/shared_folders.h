// Folders of the host's share that are mounts there.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "oci/spec.h"

namespace bulkhead::agent {

// The kernel mounts such a folder of virtio-fs where somebody first goes into it, each time as a
// file system by itself. A container that did so in its own mount namespace would have other inodes
// than the next, and so other locks and pages: it is done before, where all containers come from.
class SharedFolders {
 public:
  // What one container has of them; the folder is unmounted with the last.
  class Held {
   public:
    Held(SharedFolders& folders, std::string path) : folders_(&folders), path_(std::move(path)) {}
    Held(Held&& other) noexcept
        : folders_(std::exchange(other.folders_, nullptr)), path_(std::move(other.path_)) {}
    Held& operator=(Held&& other) noexcept {
      std::swap(folders_, other.folders_);
      std::swap(path_, other.path_);
      return *this;
    }
    ~Held() {
      if (folders_ != nullptr) {
        folders_->Release(path_);
      }
    }

   private:
    SharedFolders* folders_;  // null: moved from
    std::string path_;
  };

  // Those that the container's bind mounts name.
  std::vector<Held> Hold(const std::vector<oci::Mount>& mounts);

 private:
  bool Enter(const std::string& path);
  void Release(const std::string& path);

  std::mutex mutex_;
  std::map<std::string, int> counts_;
};

}  // namespace bulkhead::agent
