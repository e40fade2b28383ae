// Finds one image in a source: the named one, for the platform asked for.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "oci/digest.h"
#include "oci/image_json.h"
#include "oci/image_source.h"

namespace bulkhead::oci {

struct ResolvedLayer {
  std::string name;  // in the source
  std::optional<Digest> digest;
  std::optional<uint64_t> size;
};

struct ResolvedImage {
  std::string digest;  // of the manifest; of the config when there is only a Docker manifest
  std::string config_json;
  ImageConfig config;
  std::vector<ResolvedLayer> layers;  // as many as config.diff_ids
};

// `ref`: a name ("busybox:1.36", "docker.io/library/busybox:1.36"), a tag, or a manifest's digest;
// empty when the source holds one image only.
Result<ResolvedImage> ResolveImage(const ImageSource& source, const std::string& ref,
                                   const Platform& platform);

// Whether a reference that somebody typed means the image of this full name.
bool RefMatches(const std::string& ref, const std::string& name);

}  // namespace bulkhead::oci
