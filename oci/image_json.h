// The JSON documents of images, as plain values: OCI and Docker forms. Input is hostile; what is
// malformed is refused by the name of the field.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "oci/digest.h"

namespace bulkhead::oci {

constexpr size_t kMaxImageJson = 4U << 20U;
constexpr size_t kMaxLayers = 500;  // what one overlay mount takes

struct Platform {
  std::string os = "linux";
  std::string architecture = "amd64";
  std::string variant;

  std::string ToString() const;  // "linux/arm64/v8"
};

struct Descriptor {
  std::string media_type;
  std::string digest;  // not yet parsed: an entry that is not chosen may be of any kind
  uint64_t size = 0;
  std::map<std::string, std::string> annotations;
  std::optional<Platform> platform;
  std::string artifact_type;
};

struct ImageIndex {
  std::vector<Descriptor> manifests;
};

struct ImageManifest {
  Descriptor config;
  std::vector<Descriptor> layers;
};

// An image of a `docker save` archive; the names are of members of the archive.
struct DockerImage {
  std::string config;
  std::vector<std::string> repo_tags;
  std::vector<std::string> layers;
};

struct ImageConfig {
  std::string architecture;
  std::string os;
  std::string variant;
  std::vector<std::string> env;  // "NAME=value"
  std::vector<std::string> entrypoint;
  std::vector<std::string> cmd;
  std::string user;  // "user[:group]"; empty: root
  std::string working_dir;
  std::string stop_signal;
  std::map<std::string, std::string> labels;
  std::vector<std::string> volumes;
  std::vector<std::string> exposed_ports;  // "80/tcp"
  std::vector<Digest> diff_ids;            // of the uncompressed layers, lowest first
};

// An image whose layers were all unpacked before.
struct ImageRecord {
  std::string digest;
  std::string config_json;
};

// Which of the two it is is told by its content when the media type is not there.
Result<std::variant<ImageIndex, ImageManifest>> ParseIndexOrManifest(std::string_view json);
Result<ImageConfig> ParseImageConfig(std::string_view json);
// The manifest.json of a `docker save` archive.
Result<std::vector<DockerImage>> ParseDockerManifest(std::string_view json);

std::string ImageRecordToJson(const ImageRecord& record);
Result<ImageRecord> ParseImageRecord(std::string_view json);

}  // namespace bulkhead::oci
