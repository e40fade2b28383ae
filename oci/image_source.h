// Where an image's documents and blobs come from: a folder, or the members of a tar archive that is
// read in place.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>

#include "base/result.h"
#include "base/unique_fd.h"
#include "oci/layer_cache.h"

namespace bulkhead::oci {

class ImageSource {
 public:
  struct Blob {
    UniqueFd owned;  // valid when the blob is a file of its own
    int fd = -1;     // usable as long as both the source and this live
    uint64_t offset = 0;
    uint64_t size = 0;
  };

  static Result<ImageSource> OpenFolder(const std::string& path);
  // A tar, perhaps compressed: then it is spooled to a scratch folder of the cache.
  static Result<ImageSource> OpenArchive(UniqueFd file, const LayerCache& cache);

  bool Has(const std::string& name) const;
  // `name` is a path inside the source ("blobs/sha256/...").
  Result<Blob> Open(const std::string& name) const;
  Result<std::string> Read(const std::string& name, size_t limit) const;
  // A name that is in the source, for messages about what is not; empty when it is empty.
  std::string SomeName() const;

 private:
  struct Member {
    uint64_t offset = 0;
    uint64_t size = 0;
    std::string link;  // when not empty: the member that holds the content
  };

  ImageSource() = default;
  Status IndexArchive(uint64_t size);

  std::string folder_;  // empty: an archive
  UniqueFd archive_;
  std::optional<LayerCache::Scratch> scratch_;
  std::map<std::string, Member> members_;
};

}  // namespace bulkhead::oci
