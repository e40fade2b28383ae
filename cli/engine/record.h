// What is known of the containers of engines: ROOT/containers/ID, a folder each. Other roots are
// other worlds.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "shim/engine_pod.h"

namespace bulkhead::cli {

struct ContainerRecord {
  std::string id;
  std::string version;  // ociVersion of its config.json
  std::string bundle;
  std::string rootfs;
  std::string created;  // RFC 3339
  std::string pod;      // the key of its pod's folder
  std::string cgroups_path;
  std::map<std::string, std::string> annotations;
  pid_t pid = 0;        // of the stand-in; 0: it was never made
  std::string started;  // and when it was, so that the pid cannot be another's
  bool systemd_cgroup = false;
};

std::string RecordToJson(const ContainerRecord& record);
Result<ContainerRecord> ParseRecord(std::string_view text);

// Letters, digits and "_+-." as runc has them; never a path.
Status CheckContainerId(const std::string& id);

class ContainerRoot {
 public:
  explicit ContainerRoot(std::string path) : path_(std::move(path)) {}

  // Takes the id: kAlreadyExists.
  Status Reserve(const std::string& id) const;
  Status Save(const ContainerRecord& record) const;
  // kNotFound: "container does not exist".
  Result<ContainerRecord> Load(const std::string& id) const;
  bool Has(const std::string& id) const;
  std::vector<ContainerRecord> List() const;  // those that can be read, by id
  Status Remove(const std::string& id) const;

  std::string FolderOf(const std::string& id) const { return path_ + "/containers/" + id; }
  // As it was at the container's creation.
  std::string SpecOf(const std::string& id) const { return FolderOf(id) + "/config.json"; }
  shim::EnginePod PodOf(const std::string& key) const {
    return shim::EnginePod::InFolder(path_ + "/engine-pods/" + key);
  }

 private:
  const std::string path_;
};

// The stand-in lives.
bool StandInLives(const ContainerRecord& record);

}  // namespace bulkhead::cli
