// The options of an OCI mount, as mount(2) and mount_setattr(2) want them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/spec.h"

namespace bulkhead::oci {

struct MountOptions {
  unsigned long flags = 0;                 // MS_*, without propagation
  unsigned long cleared = 0;               // of those, asked to be off ("suid")
  bool explicit_flags = false;             // an option that a bind mount needs a remount for
  std::vector<unsigned long> propagation;  // MS_PRIVATE | MS_REC ..., one mount(2) call each
  uint64_t recursive_set = 0;              // MOUNT_ATTR_*, for the whole tree ("rro")
  uint64_t recursive_clear = 0;
  bool copy_up = false;           // tmpfs: start with what the image has there ("tmpcopyup")
  bool id_map = false;            // by the mount's own mappings, or the container's ("idmap")
  bool recursive_id_map = false;  // with all that is mounted below ("ridmap")
  std::string data;               // what is the file system's own
};

bool HasOption(const Mount& mount, std::string_view name);
bool IsBind(const Mount& mount);

Result<MountOptions> ParseMountOptions(const std::vector<std::string>& options);

// Every option that is more than the file system's own.
std::vector<std::string> MountOptionNames();

// MS_* of "private", "rslave" ...; an error for any other word.
Result<unsigned long> ParsePropagation(const std::string& name);

}  // namespace bulkhead::oci
