#include "oci/image_json.h"

#include <nlohmann/json.hpp>

#include "base/log.h"

namespace bulkhead::oci {
namespace {

using Json = nlohmann::json;

// Below, no TRY stands inside a braced initialiser: when it returns, the members that were made
// before it would not be destroyed.

constexpr int kMaxDepth = 32;
constexpr std::string_view kRecordVersion = "1";

Status CheckDepth(std::string_view text) {
  int depth = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        quoted = false;
      }
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kMaxDepth) {
        return MakeError(ErrorCode::kInvalidArgument, "nested deeper than {} levels", kMaxDepth);
      }
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return {};
}

Result<Json> Parse(std::string_view text) {
  if (text.size() > kMaxImageJson) {
    return MakeError(ErrorCode::kResourceExhausted, "longer than the limit of {} bytes",
                     kMaxImageJson);
  }
  TRY(CheckDepth(text));
  Json json = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) {
    return MakeError(ErrorCode::kInvalidArgument, "not JSON");
  }
  return json;
}

tl::unexpected<Error> Expected(std::string_view field, std::string_view what) {
  return MakeError(ErrorCode::kInvalidArgument, "{}: expected {}", field, what);
}

// The member, or nullptr when it is absent or null: Go writes both for "none".
const Json* Member(const Json& object, const char* name) {
  if (!object.is_object()) {
    return nullptr;
  }
  const auto it = object.find(name);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

Result<std::string> StringMember(const Json& object, const char* name) {
  const Json* value = Member(object, name);
  if (value == nullptr) {
    return std::string();
  }
  if (!value->is_string()) {
    return Expected(name, "a string");
  }
  return value->get_ref<const std::string&>();
}

Result<std::vector<std::string>> StringsMember(const Json& object, const char* name) {
  std::vector<std::string> strings;
  const Json* value = Member(object, name);
  if (value == nullptr) {
    return strings;
  }
  if (!value->is_array()) {
    return Expected(name, "an array of strings");
  }
  for (const Json& element : *value) {
    if (!element.is_string()) {
      return Expected(name, "an array of strings");
    }
    strings.push_back(element.get_ref<const std::string&>());
  }
  return strings;
}

// Old builders wrote a command of one word as a plain string.
Result<std::vector<std::string>> CommandMember(const Json& object, const char* name) {
  const Json* value = Member(object, name);
  if (value != nullptr && value->is_string()) {
    return std::vector<std::string>{value->get_ref<const std::string&>()};
  }
  return StringsMember(object, name);
}

Result<std::map<std::string, std::string>> MapMember(const Json& object, const char* name) {
  std::map<std::string, std::string> result;
  const Json* value = Member(object, name);
  if (value == nullptr) {
    return result;
  }
  if (!value->is_object()) {
    return Expected(name, "an object of strings");
  }
  for (const auto& [key, element] : value->items()) {
    if (!element.is_string()) {
      return Expected(name, "an object of strings");
    }
    result[key] = element.get_ref<const std::string&>();
  }
  return result;
}

// A set as Go writes it: an object whose values mean nothing.
Result<std::vector<std::string>> KeysMember(const Json& object, const char* name) {
  std::vector<std::string> keys;
  const Json* value = Member(object, name);
  if (value == nullptr) {
    return keys;
  }
  if (!value->is_object()) {
    return Expected(name, "an object");
  }
  for (const auto& [key, element] : value->items()) {
    keys.push_back(key);
  }
  return keys;
}

Result<Descriptor> ToDescriptor(const Json& json) {
  if (!json.is_object()) {
    return MakeError(ErrorCode::kInvalidArgument, "expected a descriptor (an object)");
  }
  Descriptor descriptor;
  descriptor.media_type = TRY(StringMember(json, "mediaType"));
  descriptor.digest = TRY(StringMember(json, "digest"));
  descriptor.artifact_type = TRY(StringMember(json, "artifactType"));
  descriptor.annotations = TRY(MapMember(json, "annotations"));
  const Json* size = Member(json, "size");
  if (size == nullptr || !size->is_number_unsigned()) {
    return Expected("size", "a number of bytes");
  }
  descriptor.size = size->get<uint64_t>();
  if (const Json* platform = Member(json, "platform")) {
    Platform& to = descriptor.platform.emplace();
    to.os = TRY(StringMember(*platform, "os"));
    to.architecture = TRY(StringMember(*platform, "architecture"));
    to.variant = TRY(StringMember(*platform, "variant"));
  }
  return descriptor;
}

Result<std::vector<Descriptor>> DescriptorsMember(const Json& object, const char* name) {
  const Json* array = Member(object, name);
  std::vector<Descriptor> descriptors;
  if (array == nullptr) {  // Go writes an empty list as null
    return descriptors;
  }
  if (!array->is_array()) {
    return Expected(name, "an array");
  }
  for (size_t i = 0; i < array->size(); ++i) {
    descriptors.push_back(TRY_AS(ToDescriptor((*array)[i]), "{}[{}]", name, i));
  }
  return descriptors;
}

}  // namespace

std::string Platform::ToString() const {
  return variant.empty() ? fmt::format("{}/{}", os, architecture)
                         : fmt::format("{}/{}/{}", os, architecture, variant);
}

Result<std::variant<ImageIndex, ImageManifest>> ParseIndexOrManifest(std::string_view json) {
  const Json root = TRY(Parse(json));
  if (!root.is_object()) {
    return MakeError(ErrorCode::kInvalidArgument, "expected an object");
  }
  if (const Json* version = Member(root, "schemaVersion"); version != nullptr && *version == 1) {
    return MakeError(ErrorCode::kUnimplemented,
                     "Docker's image format \"schema 1\" is not supported");
  }
  if (root.contains("manifests")) {
    return ImageIndex{TRY(DescriptorsMember(root, "manifests"))};
  }
  const Json* config = Member(root, "config");
  if (config == nullptr) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "neither an index (\"manifests\") nor a manifest (\"config\", \"layers\")");
  }
  ImageManifest manifest;
  manifest.config = TRY_AS(ToDescriptor(*config), "config");
  manifest.layers = TRY(DescriptorsMember(root, "layers"));
  return manifest;
}

Result<ImageConfig> ParseImageConfig(std::string_view json) {
  const Json root = TRY(Parse(json));
  if (!root.is_object()) {
    return MakeError(ErrorCode::kInvalidArgument, "expected an object");
  }
  ImageConfig config;
  config.architecture = TRY(StringMember(root, "architecture"));
  config.os = TRY(StringMember(root, "os"));
  config.variant = TRY(StringMember(root, "variant"));
  if (const Json* run = Member(root, "config")) {
    if (!run->is_object()) {
      return Expected("config", "an object");
    }
    config.env = TRY_AS(StringsMember(*run, "Env"), "config");
    config.entrypoint = TRY_AS(CommandMember(*run, "Entrypoint"), "config");
    config.cmd = TRY_AS(CommandMember(*run, "Cmd"), "config");
    config.user = TRY_AS(StringMember(*run, "User"), "config");
    config.working_dir = TRY_AS(StringMember(*run, "WorkingDir"), "config");
    config.stop_signal = TRY_AS(StringMember(*run, "StopSignal"), "config");
    config.labels = TRY_AS(MapMember(*run, "Labels"), "config");
    config.volumes = TRY_AS(KeysMember(*run, "Volumes"), "config");
    config.exposed_ports = TRY_AS(KeysMember(*run, "ExposedPorts"), "config");
  }
  const Json* rootfs = Member(root, "rootfs");
  if (rootfs == nullptr || !rootfs->is_object()) {
    return Expected("rootfs", "an object");
  }
  const std::string type = TRY_AS(StringMember(*rootfs, "type"), "rootfs");
  if (type != "layers") {
    return MakeError(ErrorCode::kInvalidArgument, "rootfs.type: expected \"layers\", not {}",
                     JsonQuote(type));
  }
  const auto diff_ids = TRY_AS(StringsMember(*rootfs, "diff_ids"), "rootfs");
  if (diff_ids.size() > kMaxLayers) {
    return MakeError(ErrorCode::kResourceExhausted, "rootfs.diff_ids: {} layers; at most {} work",
                     diff_ids.size(), kMaxLayers);
  }
  for (const std::string& text : diff_ids) {
    config.diff_ids.push_back(TRY_AS(Digest::Parse(text), "rootfs.diff_ids"));
  }
  return config;
}

Result<std::vector<DockerImage>> ParseDockerManifest(std::string_view json) {
  const Json root = TRY(Parse(json));
  if (!root.is_array()) {
    return MakeError(ErrorCode::kInvalidArgument, "expected an array of images");
  }
  std::vector<DockerImage> images;
  for (const Json& element : root) {
    if (!element.is_object()) {
      return MakeError(ErrorCode::kInvalidArgument, "expected an array of images");
    }
    DockerImage& image = images.emplace_back();
    image.config = TRY(StringMember(element, "Config"));
    image.repo_tags = TRY(StringsMember(element, "RepoTags"));
    image.layers = TRY(StringsMember(element, "Layers"));
  }
  return images;
}

std::string ImageRecordToJson(const ImageRecord& record) {
  const Json json{
      {"version", kRecordVersion}, {"digest", record.digest}, {"config", record.config_json}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<ImageRecord> ParseImageRecord(std::string_view json) {
  const Json root = TRY(Parse(json));
  if (TRY(StringMember(root, "version")) != kRecordVersion) {
    return MakeError(ErrorCode::kFailedPrecondition, "written by another version");
  }
  ImageRecord record;
  record.digest = TRY(StringMember(root, "digest"));
  record.config_json = TRY(StringMember(root, "config"));
  return record;
}

}  // namespace bulkhead::oci
