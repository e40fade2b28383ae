#include "oci/image_resolve.h"

#include <algorithm>
#include <array>
#include <set>
#include <string_view>

#include "base/log.h"

namespace bulkhead::oci {
namespace {

constexpr int kMaxIndexDepth = 4;
constexpr const char* kRefName = "org.opencontainers.image.ref.name";
constexpr const char* kContainerdName = "io.containerd.image.name";

bool IsAttestation(const Descriptor& entry) {
  const auto it = entry.annotations.find("vnd.docker.reference.type");
  return (it != entry.annotations.end() && it->second == "attestation-manifest") ||
         (entry.platform && entry.platform->os == "unknown");
}

bool IsIndexType(const std::string& type) {
  return type == "application/vnd.oci.image.index.v1+json" ||
         type == "application/vnd.docker.distribution.manifest.list.v2+json";
}

bool IsManifestType(const std::string& type) {
  return type == "application/vnd.oci.image.manifest.v1+json" ||
         type == "application/vnd.docker.distribution.manifest.v2+json";
}

bool IsConfigType(const std::string& type) {
  return type.empty() || type == "application/vnd.oci.image.config.v1+json" ||
         type == "application/vnd.docker.container.image.v1+json";
}

// What it is compressed by is told by its first bytes; the type need only be one of a tar.
bool IsLayerType(const std::string& type) {
  static constexpr std::array<std::string_view, 5> kBases = {
      "application/vnd.oci.image.layer.v1.tar",
      "application/vnd.oci.image.layer.nondistributable.v1.tar",
      "application/vnd.docker.image.rootfs.diff.tar",
      "application/vnd.docker.image.rootfs.foreign.diff.tar", "application/vnd.docker.layer.tar"};
  static constexpr std::array<std::string_view, 5> kSuffixes = {"", "+gzip", "+zstd", ".gzip",
                                                                ".zstd"};
  return std::any_of(kBases.begin(), kBases.end(), [&](std::string_view base) {
    return type.starts_with(base) && std::find(kSuffixes.begin(), kSuffixes.end(),
                                               type.substr(base.size())) != kSuffixes.end();
  });
}

std::vector<std::string> NamesOf(const Descriptor& entry) {
  std::vector<std::string> names;
  for (const char* key : {kContainerdName, kRefName}) {
    const auto it = entry.annotations.find(key);
    if (it != entry.annotations.end() && !it->second.empty()) {
      names.push_back(it->second);
    }
  }
  return names;
}

std::string DisplayName(const Descriptor& entry) {
  const auto names = NamesOf(entry);
  std::string name = names.empty() ? entry.digest : names.front();
  if (entry.platform) {
    name += " (" + entry.platform->ToString() + ")";
  }
  return name;
}

std::string ListOf(const std::set<std::string>& names) {
  constexpr size_t kShown = 20;
  std::string list;
  size_t shown = 0;
  for (const std::string& name : names) {
    if (shown++ == kShown) {
      return list + fmt::format(" and {} more", names.size() - kShown);
    }
    const std::string quoted = JsonQuote(name.substr(0, 200));
    list += (list.empty() ? "" : ", ") + quoted.substr(1, quoted.size() - 2);
  }
  return list;
}

class Resolver {
 public:
  Resolver(const ImageSource& source, const std::string& ref, const Platform& platform)
      : source_(source), ref_(ref), platform_(platform) {}

  Result<ResolvedImage> FromIndex(const std::string& name) const;
  Result<ResolvedImage> FromDockerManifest() const;

 private:
  Result<Descriptor> ChooseByName(const ImageIndex& index) const;
  Result<Descriptor> ChooseByPlatform(const std::vector<Descriptor>& entries) const;
  Result<ResolvedImage> FromManifest(const ImageManifest& manifest, std::string digest) const;
  Result<std::string> ReadBlob(const Descriptor& descriptor) const;
  Status CheckPlatform(const ImageConfig& config) const;

  const ImageSource& source_;
  const std::string& ref_;
  const Platform& platform_;
};

Result<std::string> Resolver::ReadBlob(const Descriptor& descriptor) const {
  const Digest digest = TRY(Digest::Parse(descriptor.digest));
  std::string content = TRY(source_.Read(digest.BlobPath(), kMaxImageJson));
  if (content.size() != descriptor.size || DigestOf(content, digest.algorithm) != digest) {
    return MakeError(ErrorCode::kInvalidArgument, "the content does not match its digest {}",
                     digest.ToString());
  }
  return content;
}

Result<Descriptor> Resolver::ChooseByPlatform(const std::vector<Descriptor>& entries) const {
  const Descriptor* best = nullptr;
  int best_rank = 0;
  std::set<std::string> platforms;
  for (const Descriptor& entry : entries) {
    int rank = 1;  // no platform given: its config will tell
    if (entry.platform) {
      platforms.insert(entry.platform->ToString());
      if (entry.platform->os != platform_.os ||
          entry.platform->architecture != platform_.architecture) {
        continue;
      }
      // Without a variant asked for, the plainest one runs on any machine.
      const std::string& variant = entry.platform->variant;
      rank = variant == platform_.variant ? 4 : variant.empty() || variant == "v1" ? 3 : 2;
    }
    if (rank > best_rank) {
      best = &entry;
      best_rank = rank;
    }
  }
  if (best == nullptr) {
    return MakeError(ErrorCode::kNotFound, "no image for {}; there is {}", platform_.ToString(),
                     platforms.empty() ? "none at all" : ListOf(platforms));
  }
  return *best;
}

Result<Descriptor> Resolver::ChooseByName(const ImageIndex& index) const {
  std::vector<Descriptor> entries;
  std::set<std::string> all;
  for (const Descriptor& entry : index.manifests) {
    if (IsAttestation(entry)) {
      continue;
    }
    all.insert(DisplayName(entry));
    const auto names = NamesOf(entry);
    if (ref_.empty() || entry.digest == ref_ ||
        std::any_of(names.begin(), names.end(),
                    [&](const std::string& name) { return RefMatches(ref_, name); })) {
      entries.push_back(entry);
    }
  }
  if (entries.empty()) {
    return all.empty() ? MakeError(ErrorCode::kNotFound, "it holds no image")
                       : MakeError(ErrorCode::kNotFound, "no image {}; there is {}",
                                   JsonQuote(ref_), ListOf(all));
  }
  std::set<std::string> digests;
  std::set<std::vector<std::string>> names;
  std::set<std::string> platforms;
  for (const Descriptor& entry : entries) {
    digests.insert(entry.digest);
    names.insert(NamesOf(entry));
    platforms.insert(entry.platform ? entry.platform->ToString() : "");
  }
  if (digests.size() == 1) {  // perhaps under several names
    return entries.front();
  }
  if (names.size() == 1 && platforms.size() == entries.size()) {  // one image, many platforms
    return ChooseByPlatform(entries);
  }
  return MakeError(ErrorCode::kInvalidArgument,
                   "it holds several images; name one as PATH:NAME: {}", ListOf(all));
}

Result<ResolvedImage> Resolver::FromIndex(const std::string& name) const {
  auto document = TRY_AS(ParseIndexOrManifest(TRY_AS(source_.Read(name, kMaxImageJson), "reading")),
                         "{}", name);
  auto* top = std::get_if<ImageIndex>(&document);
  if (top == nullptr) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: \"manifests\" is missing", name);
  }
  Descriptor chosen = TRY(ChooseByName(*top));
  for (int depth = 0; depth < kMaxIndexDepth; ++depth) {
    if (!chosen.media_type.empty() && !IsIndexType(chosen.media_type) &&
        !IsManifestType(chosen.media_type)) {
      return MakeError(ErrorCode::kUnimplemented, "manifest {}: media type {} is not an image's",
                       chosen.digest, JsonQuote(chosen.media_type));
    }
    auto next = TRY_AS(ParseIndexOrManifest(TRY_AS(ReadBlob(chosen), "manifest {}", chosen.digest)),
                       "manifest {}", chosen.digest);
    if (const auto* manifest = std::get_if<ImageManifest>(&next)) {
      return FromManifest(*manifest, chosen.digest);
    }
    std::vector<Descriptor> entries = std::move(std::get<ImageIndex>(next).manifests);
    std::erase_if(entries, &IsAttestation);
    chosen = TRY(ChooseByPlatform(entries));
  }
  return MakeError(ErrorCode::kInvalidArgument, "{}: indexes are nested deeper than {} levels",
                   name, kMaxIndexDepth);
}

Status Resolver::CheckPlatform(const ImageConfig& config) const {
  if ((config.os.empty() || config.os == platform_.os) &&
      (config.architecture.empty() || config.architecture == platform_.architecture)) {
    return {};
  }
  return MakeError(ErrorCode::kInvalidArgument, "the image is for {}, not for {}",
                   Platform{config.os, config.architecture, config.variant}.ToString(),
                   platform_.ToString());
}

Result<ResolvedImage> Resolver::FromManifest(const ImageManifest& manifest,
                                             std::string digest) const {
  if (!IsConfigType(manifest.config.media_type)) {
    return MakeError(ErrorCode::kUnimplemented,
                     "not a container image: its config is of media type {}",
                     JsonQuote(manifest.config.media_type));
  }
  ResolvedImage image;
  image.digest = std::move(digest);
  image.config_json = TRY_AS(ReadBlob(manifest.config), "config {}", manifest.config.digest);
  image.config = TRY_AS(ParseImageConfig(image.config_json), "config {}", manifest.config.digest);
  TRY(CheckPlatform(image.config));
  for (const Descriptor& layer : manifest.layers) {
    if (!layer.media_type.empty() && !IsLayerType(layer.media_type)) {
      return MakeError(ErrorCode::kUnimplemented,
                       "layer {}: media type {} is not supported (a tar, +gzip or +zstd, is)",
                       layer.digest, JsonQuote(layer.media_type));
    }
    const Digest layer_digest = TRY_AS(Digest::Parse(layer.digest), "layers");
    image.layers.push_back({layer_digest.BlobPath(), layer_digest, layer.size});
  }
  return image;
}

// The config's file is named by its digest ("<hex>.json", "blobs/sha256/<hex>", "sha256:<hex>").
Status CheckDockerConfig(const std::string& name, const std::string& actual_hex) {
  std::string_view hex = name;
  hex.remove_prefix(std::min(hex.size(), hex.find_last_of("/:") + 1));
  hex = hex.substr(0, hex.find('.'));
  const bool is_digest = Digest::Parse(fmt::format("sha256:{}", hex)).has_value();
  if (is_digest && hex != actual_hex) {
    return MakeError(ErrorCode::kInvalidArgument, "the content does not match its digest: got {}",
                     actual_hex);
  }
  return {};
}

Result<ResolvedImage> Resolver::FromDockerManifest() const {
  const auto images = TRY_AS(ParseDockerManifest(TRY(source_.Read("manifest.json", kMaxImageJson))),
                             "manifest.json");
  std::vector<const DockerImage*> matches;
  std::set<std::string> all;
  for (const DockerImage& image : images) {
    all.insert(image.repo_tags.begin(), image.repo_tags.end());
    if (image.repo_tags.empty()) {
      all.insert(image.config);
    }
    if (ref_.empty() ||
        std::any_of(image.repo_tags.begin(), image.repo_tags.end(),
                    [&](const std::string& tag) { return RefMatches(ref_, tag); })) {
      matches.push_back(&image);
    }
  }
  if (matches.empty()) {
    return all.empty() ? MakeError(ErrorCode::kNotFound, "it holds no image")
                       : MakeError(ErrorCode::kNotFound, "no image {}; there is {}",
                                   JsonQuote(ref_), ListOf(all));
  }
  if (matches.size() > 1) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "it holds several images; name one as PATH:NAME: {}", ListOf(all));
  }
  const DockerImage& chosen = *matches.front();
  ResolvedImage image;
  image.config_json = TRY_AS(source_.Read(chosen.config, kMaxImageJson), "config");
  const Digest digest = DigestOf(image.config_json);
  TRY_AS(CheckDockerConfig(chosen.config, digest.hex), "config {}", JsonQuote(chosen.config));
  image.digest = digest.ToString();
  image.config = TRY_AS(ParseImageConfig(image.config_json), "config {}", JsonQuote(chosen.config));
  TRY(CheckPlatform(image.config));
  for (const std::string& layer : chosen.layers) {
    image.layers.push_back({layer, std::nullopt, std::nullopt});
  }
  return image;
}

// "busybox" as "docker.io/library/busybox:latest".
std::string FullName(std::string name) {
  const size_t slash = name.find('/');
  const std::string first = name.substr(0, slash);
  const bool has_host = slash != std::string::npos &&
                        (first.find_first_of(".:") != std::string::npos || first == "localhost");
  if (!has_host) {
    name = (slash == std::string::npos ? "docker.io/library/" : "docker.io/") + name;
  }
  const size_t last = name.rfind('/');
  if (name.find_first_of(":@", last) == std::string::npos) {
    name += ":latest";
  }
  return name;
}

}  // namespace

bool RefMatches(const std::string& ref, const std::string& name) {
  if (ref == name || FullName(ref) == FullName(name)) {
    return true;
  }
  // A tag alone.
  const size_t colon = name.rfind(':');
  return colon != std::string::npos && name.find('/', colon) == std::string::npos &&
         name.substr(colon + 1) == ref;
}

Result<ResolvedImage> ResolveImage(const ImageSource& source, const std::string& ref,
                                   const Platform& platform) {
  const Resolver resolver(source, ref, platform);
  ResolvedImage image;
  if (source.Has("index.json")) {
    image = TRY(resolver.FromIndex("index.json"));
  } else if (source.Has("manifest.json")) {
    image = TRY(resolver.FromDockerManifest());
  } else {
    const std::string name = source.SomeName();
    const std::string holds =
        name.empty() ? "it is empty" : fmt::format("it holds {}", JsonQuote(name.substr(0, 200)));
    return MakeError(
        ErrorCode::kInvalidArgument,
        "no index.json (OCI layout) or manifest.json (docker save) in it; {}. An "
        "archive of a root file system is to be unpacked first: a folder runs as it is",
        holds);
  }
  if (image.layers.size() != image.config.diff_ids.size()) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "the manifest has {} layers, the config {} (rootfs.diff_ids)",
                     image.layers.size(), image.config.diff_ids.size());
  }
  if (image.layers.empty()) {
    return MakeError(ErrorCode::kInvalidArgument, "the image has no layers: nothing to run");
  }
  return image;
}

}  // namespace bulkhead::oci
