// Folders of the host's share that are mounts there.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "oci/spec.h"

namespace bulkhead::agent {

// The kernel mounts such a folder of virtio-fs where somebody first goes into it, each time as a
// file system by itself. A container that did so in its own mount namespace would have other inodes
// than the next, and so other locks and pages: it is done before, where all containers come from.
// A folder that answers late holds up those alone who want it, too.
class SharedFolders {
  struct Folder;

 public:
  // What one container has of them; the folder is unmounted with the last.
  class Held {
   public:
    Held(SharedFolders& folders, std::string path);
    Held(Held&& other) noexcept
        : folders_(std::exchange(other.folders_, nullptr)),
          path_(std::move(other.path_)),
          folder_(std::move(other.folder_)) {}
    Held& operator=(Held&& other) noexcept {
      std::swap(folders_, other.folders_);
      std::swap(path_, other.path_);
      std::swap(folder_, other.folder_);
      return *this;
    }
    ~Held();

   private:
    SharedFolders* folders_;  // null: moved from
    std::string path_;
    std::shared_ptr<Folder> folder_;
  };

  // Those that the container's bind mounts name.
  std::vector<Held> Hold(const std::vector<oci::Mount>& mounts);

 private:
  struct Folder {
    size_t holders = 0;    // with the lock of all
    std::mutex mutex;      // held while it is mounted and unmounted; before the lock of all
    bool mounted = false;  // by us
  };

  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Folder>> folders_;
};

}  // namespace bulkhead::agent
