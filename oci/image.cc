#include "oci/image.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <optional>

#include "base/sys.h"
#include "oci/image_resolve.h"
#include "oci/image_source.h"
#include "oci/layer.h"

namespace bulkhead::oci {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kProgressInterval = std::chrono::milliseconds(100);

// Any change to the file changes its key; so does what was asked of it.
std::string IndexKey(const struct stat& info, const OpenImageOptions& options) {
  const std::string text =
      fmt::format("{}:{}:{}:{}.{:09}:{}.{:09}:{}:{}", info.st_dev, info.st_ino, info.st_size,
                  info.st_mtim.tv_sec, info.st_mtim.tv_nsec, info.st_ctim.tv_sec,
                  info.st_ctim.tv_nsec, options.platform.ToString(), options.ref);
  return DigestOf(text).hex;
}

// The folders that make the root file system. A layer whose content comes again higher up is left
// out, for it changes nothing there and overlayfs refuses a folder that is named twice; so is what
// lies below a layer with an opaque root, which overlayfs does not look for.
Result<std::vector<std::string>> FoldersOf(const std::vector<Digest>& diff_ids,
                                           const LayerCache& cache) {
  std::vector<std::string> folders;
  for (auto it = diff_ids.rbegin(); it != diff_ids.rend(); ++it) {
    std::string path = cache.LayerPath(*it);
    const bool opaque = TRY(sys::LGetXattr(path, "trusted.overlay.opaque")) == "y";
    if (std::find(folders.begin(), folders.end(), path) == folders.end()) {
      folders.push_back(std::move(path));
    }
    if (opaque) {
      break;
    }
  }
  std::reverse(folders.begin(), folders.end());
  return folders;
}

// What was found in this very file before, when all its layers are still there.
std::optional<UnpackedImage> FromIndex(const std::string& key, const LayerCache& cache) {
  const auto text = cache.ReadIndex(key);
  if (!text) {
    return std::nullopt;
  }
  auto record = ParseImageRecord(*text);
  auto config = record ? ParseImageConfig(record->config_json)
                       : Result<ImageConfig>(tl::unexpected<Error>(record.error()));
  if (!config || !std::all_of(config->diff_ids.begin(), config->diff_ids.end(),
                              [&](const Digest& id) { return cache.Has(id); })) {
    return std::nullopt;
  }
  auto folders = FoldersOf(config->diff_ids, cache);
  if (!folders) {
    return std::nullopt;
  }
  return UnpackedImage{std::move(*config), std::move(record->digest), std::move(*folders), {}};
}

class ProgressMeter {
 public:
  ProgressMeter(const OpenImageOptions& options, size_t layer, size_t layers, uint64_t total)
      : options_(options), progress_{layer, layers, 0, total} {}

  void Add(uint64_t bytes) {
    progress_.done += bytes;
    if (Clock::now() - last_ >= kProgressInterval) {
      Report();
    }
  }
  void Report() {
    last_ = Clock::now();
    if (options_.progress) {
      options_.progress(progress_);
    }
  }

 private:
  const OpenImageOptions& options_;
  ImageProgress progress_;
  Clock::time_point last_ = Clock::now();
};

Status UnpackInto(const std::string& folder, const ImageSource& source, const ResolvedImage& image,
                  size_t index, const OpenImageOptions& options,
                  std::vector<std::string>& warnings) {
  const ResolvedLayer& layer = image.layers[index];
  const ImageSource::Blob blob = TRY(source.Open(layer.name));
  if (layer.size && *layer.size != blob.size) {
    return MakeError(ErrorCode::kInvalidArgument, "it has {} bytes, not {} as the manifest says",
                     blob.size, *layer.size);
  }
  ProgressMeter meter(options, index, image.layers.size(), blob.size);
  auto found =
      TRY(UnpackLayer({blob.fd, blob.offset, blob.size, layer.digest, image.config.diff_ids[index]},
                      folder, [&](uint64_t bytes) { meter.Add(bytes); }));
  meter.Report();
  warnings.insert(warnings.end(), found.begin(), found.end());
  return {};
}

Result<UnpackedImage> Unpack(const ImageSource& source, const LayerCache& cache,
                             const OpenImageOptions& options, std::string* config_json) {
  ResolvedImage image = TRY(ResolveImage(source, options.ref, options.platform));
  UnpackedImage unpacked;
  for (size_t i = 0; i < image.layers.size(); ++i) {
    const auto fill = [&](const std::string& folder) {
      return UnpackInto(folder, source, image, i, options, unpacked.warnings);
    };
    TRY_AS(cache.Get(image.config.diff_ids[i], fill), "layer {} of {} ({})", i + 1,
           image.layers.size(), image.config.diff_ids[i].ToString());
  }
  unpacked.layers = TRY(FoldersOf(image.config.diff_ids, cache));
  unpacked.config = std::move(image.config);
  unpacked.digest = std::move(image.digest);
  *config_json = std::move(image.config_json);
  return unpacked;
}

Result<UnpackedImage> OpenArchiveImage(const std::string& path, const LayerCache& cache,
                                       const OpenImageOptions& options) {
  UniqueFd file = TRY(sys::Open(path, O_RDONLY));
  const std::string key = IndexKey(TRY(sys::FStat(file.get())), options);
  if (auto known = FromIndex(key, cache)) {
    return *std::move(known);
  }
  const UniqueFd same_file = TRY(sys::Dup(file.get()));
  const ImageSource source = TRY(ImageSource::OpenArchive(std::move(file), cache));
  std::string config_json;
  UnpackedImage image = TRY(Unpack(source, cache, options, &config_json));
  // A file that changed while it was read is not remembered.
  if (IndexKey(TRY(sys::FStat(same_file.get())), options) == key) {
    TRY(cache.WriteIndex(key, ImageRecordToJson({image.digest, config_json})));
  }
  return image;
}

}  // namespace

Result<UnpackedImage> OpenImage(const std::string& path, const LayerCache& cache,
                                const OpenImageOptions& options) {
  switch (TRY(DetectImage(path))) {
    case ImageKind::kRootfs:
      return MakeError(ErrorCode::kInvalidArgument, "{} is a root file system, not an image", path);
    case ImageKind::kArchive:
      return TRY_AS(OpenArchiveImage(path, cache, options), "image {}", path);
    case ImageKind::kLayoutFolder:
      break;
  }
  // Its documents are small: they are read each time.
  const ImageSource source = TRY_AS(ImageSource::OpenFolder(path), "image {}", path);
  std::string config_json;
  return TRY_AS(Unpack(source, cache, options, &config_json), "image {}", path);
}

}  // namespace bulkhead::oci
