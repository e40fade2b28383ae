// Container images from a file or folder, unpacked into a cache of layers: no daemon, no registry.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "oci/image_json.h"
#include "oci/layer_cache.h"

namespace bulkhead::oci {

enum class ImageKind {
  kLayoutFolder,  // an OCI image layout, or an unpacked `docker save`
  kArchive,       // either as a tar, perhaps compressed
  kRootfs,        // a folder with a root file system
};

// What `path` is. Errors say what it is not and what is accepted.
Result<ImageKind> DetectImage(const std::string& path);

struct ImageArgument {
  std::string path;
  std::string ref;  // may be empty
};

// "PATH" or "PATH:NAME", as a user writes it: a path that exists is preferred whole.
ImageArgument ParseImageArgument(const std::string& argument);

struct ImageProgress {
  size_t layer = 0;   // from 0, lowest first
  size_t layers = 0;  // in the image
  uint64_t done = 0;  // bytes of the layer's blob
  uint64_t total = 0;
};

struct OpenImageOptions {
  std::string ref;  // needed when the file holds several images
  Platform platform;
  // At most about ten calls a second, and one at the end of each layer that had to be unpacked.
  std::function<void(const ImageProgress&)> progress;
};

struct UnpackedImage {
  ImageConfig config;
  std::string digest;
  std::vector<std::string> layers;    // folders, lowest first: overlay lower directories
  std::vector<std::string> warnings;  // what the cache's file system could not hold
};

// The image's layers, unpacked unless they are in the cache already. Every digest is verified
// before a layer enters the cache; on failure nothing of this call stays in it but whole layers.
Result<UnpackedImage> OpenImage(const std::string& path, const LayerCache& cache,
                                const OpenImageOptions& options = {});

}  // namespace bulkhead::oci
