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

namespace bulkhead::shim {

// Of all containers that hold it; unmounted with the last.
class SharedVolume {
 public:
  static Result<std::shared_ptr<SharedVolume>> Make(std::string path, bool is_folder);
  ~SharedVolume();
  SharedVolume(const SharedVolume&) = delete;
  SharedVolume& operator=(const SharedVolume&) = delete;

  const std::string& path() const { return path_; }

 private:
  explicit SharedVolume(std::string path) : path_(std::move(path)) {}

  const std::string path_;
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
  // The folder is made. `by_root`: its server makes files as root and gives them away.
  static Result<std::unique_ptr<SharedVolumes>> Make(std::string path, bool by_root);
  ~SharedVolumes();
  SharedVolumes(const SharedVolumes&) = delete;
  SharedVolumes& operator=(const SharedVolumes&) = delete;

  Result<std::shared_ptr<SharedVolume>> Get(const VolumeRequest& request);

 private:
  SharedVolumes(std::string path, bool by_root) : path_(std::move(path)), by_root_(by_root) {}

  const std::string path_;
  const bool by_root_;
  std::mutex mutex_;
  uint64_t count_ = 0;  // of volumes ever made: no name twice
  std::map<std::string, std::weak_ptr<SharedVolume>> volumes_;
};

}  // namespace bulkhead::shim
