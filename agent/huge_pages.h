// The guest's huge pages: as many of each size are kept as are claimed.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.h"
#include "oci/spec.h"

namespace bulkhead::agent {

class HugePages {
 public:
  explicit HugePages(std::string folder = "/sys/kernel/mm/hugepages",
                     std::string meminfo = "/proc/meminfo")
      : folder_(std::move(folder)), meminfo_(std::move(meminfo)) {}

  // What one holder has; given back with it.
  class Claim {
   public:
    explicit Claim(HugePages& pages) : pages_(pages) {}
    ~Claim();
    Claim(const Claim&) = delete;
    Claim& operator=(const Claim&) = delete;

    // Instead of what it has of that size. An error leaves that as it was.
    Status Set(uint64_t page_bytes, uint64_t bytes);
    // Of a container, whose limits are what it asks for.
    Status Set(const std::vector<oci::HugepageLimit>& limits);

   private:
    HugePages& pages_;
    std::mutex mutex_;                     // before that of all
    std::map<uint64_t, uint64_t> counts_;  // by the size of a page
  };

 private:
  struct Pool {
    uint64_t at_boot = 0;
    uint64_t claimed = 0;
  };
  Status Change(uint64_t page_bytes, uint64_t from, uint64_t to);  // with the mutex
  Status Fill(const std::string& path, uint64_t page_bytes, uint64_t count) const;

  const std::string folder_;
  const std::string meminfo_;
  std::mutex mutex_;                // of the pools; held while pages are made
  std::map<uint64_t, Pool> pools_;  // by the size of a page
};

}  // namespace bulkhead::agent
