// One layer: from a blob (a tar, perhaps compressed) to a folder for overlayfs, verified on the
// way.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "oci/digest.h"

namespace bulkhead::oci {

struct LayerBlob {
  int fd = -1;  // not owned
  uint64_t offset = 0;
  uint64_t size = 0;
  std::optional<Digest> digest;  // of the blob as it is, when the manifest tells it
  Digest diff_id;                // of the tar inside it
};

// Fills `folder`, which must exist and be empty. When this fails the folder's content is to be
// thrown away: the digests are known only after the last byte. Returns warnings.
Result<std::vector<std::string>> UnpackLayer(const LayerBlob& blob, const std::string& folder,
                                             std::function<void(uint64_t bytes)> counter = {});

}  // namespace bulkhead::oci
