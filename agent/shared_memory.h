// Memory that containers of the pod share by name: a file system in the guest's memory each.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "agent/huge_pages.h"
#include "base/result.h"

namespace bulkhead::agent {

struct SharedMemoryRequest {
  uint64_t size_bytes = 0;
  uint64_t huge_page_bytes = 0;  // 0: a tmpfs, for which the rest says nothing
  uint64_t reserved_bytes = 0;
  mode_t mode = 0755;
  uid_t uid = 0;
  gid_t gid = 0;
};

class SharedMemory {
 public:
  explicit SharedMemory(HugePages& pages) : pages_(pages) {}

  // At /run/shm/NAME; one that is there already stays as it is.
  Status Share(const std::string& name, const SharedMemoryRequest& request);
  // Gone with the last container that has it mounted.
  Status Release(const std::string& name);

 private:
  Status Mount(const std::string& name, const std::string& path,
               const SharedMemoryRequest& request);

  HugePages& pages_;
  std::mutex mutex_;  // one at a time is made
  std::map<std::string, HugePages::Claim> claims_;
};

}  // namespace bulkhead::agent
