// Memory of the guest that stands for a file system in the host's memory.
#pragma once

#include <cstdint>
#include <string>

namespace bulkhead::shim {

struct MemoryVolume {
  uint64_t size_bytes = 0;
  uint64_t huge_page_bytes = 0;  // 0: a tmpfs, for which the rest says nothing
  uint64_t reserved_bytes = 0;   // kept for it alone; size_bytes of 0 is no limit then
  uint32_t mode = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  std::string identity = {};  // of its source on the host: no other has the same
};

}  // namespace bulkhead::shim
