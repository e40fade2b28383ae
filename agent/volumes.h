// Volumes of the host in the guest's own mount namespace. A folder of virtio-fs that is a mount of
// its own on the host is mounted when somebody first walks into it: done here once, before
// containers bind it, it is one file system for all of them, with one set of locks and pages.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "oci/spec.h"

namespace bulkhead::agent {

// Unmounted with the last container that has it: the host's file system is to be free then.
class Volume {
 public:
  explicit Volume(std::string path) : path_(std::move(path)) {}
  ~Volume();
  Volume(const Volume&) = delete;
  Volume& operator=(const Volume&) = delete;

 private:
  const std::string path_;
};

class Volumes {
 public:
  Volumes() = default;
  Volumes(const Volumes&) = delete;
  Volumes& operator=(const Volumes&) = delete;

  // Those among the sources of a container's bind mounts. What cannot be opened is none: mounting
  // it will tell why.
  std::vector<std::shared_ptr<Volume>> Hold(const oci::Spec& spec);

 private:
  std::shared_ptr<Volume> HoldOne(const std::string& path);

  std::mutex mutex_;
  std::map<std::string, std::weak_ptr<Volume>> volumes_;
};

}  // namespace bulkhead::agent
