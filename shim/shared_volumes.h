// The volumes of a pod: a source that several containers have alike is mounted once, so that in the
// guest it is one, too: with one set of locks and of mapped pages.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.h"
#include "oci/spec.h"
#include "shim/share_root.h"

namespace bulkhead::shim {

// Of all containers that hold it; unmounted with the last.
class SharedVolume {
 public:
  // `root` outlives it.
  static Result<std::shared_ptr<SharedVolume>> Make(const ShareRoot& root, std::string name,
                                                    bool is_folder);
  ~SharedVolume();
  SharedVolume(const SharedVolume&) = delete;
  SharedVolume& operator=(const SharedVolume&) = delete;

  std::string path() const { return root_.PathOf(name_); }

 private:
  SharedVolume(const ShareRoot& root, std::string name) : root_(root), name_(std::move(name)) {}

  const ShareRoot& root_;
  const std::string name_;
};

// How a container wants to see a source.
struct VolumeRequest {
  oci::Mount mount;                          // a bind
  std::vector<oci::IdMapping> uid_mappings;  // of the container: for "idmap" without its own
  std::vector<oci::IdMapping> gid_mappings;
  int view = -1;  // the mount namespace that the source is of; -1: our own
};

// From any thread. Its volumes end before it.
class SharedVolumes {
 public:
  // The folder `name` is made. `by_root`: its server makes files as root and gives them away.
  static Result<std::unique_ptr<SharedVolumes>> Make(const ShareRoot& root, std::string name,
                                                     bool by_root);
  ~SharedVolumes();
  SharedVolumes(const SharedVolumes&) = delete;
  SharedVolumes& operator=(const SharedVolumes&) = delete;

  Result<std::shared_ptr<SharedVolume>> Get(const VolumeRequest& request);

 private:
  SharedVolumes(const ShareRoot& root, std::string name, bool by_root)
      : root_(root), name_(std::move(name)), by_root_(by_root) {}

  const ShareRoot& root_;
  const std::string name_;
  const bool by_root_;
  std::mutex mutex_;
  uint64_t count_ = 0;  // of volumes ever made: no name twice
  std::map<std::string, std::weak_ptr<SharedVolume>> volumes_;
};

}  // namespace bulkhead::shim
