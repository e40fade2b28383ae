#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "base/sys.h"
#include "oci/image.h"
#include "oci/tar_source.h"

namespace bulkhead::oci {
namespace {

constexpr std::string_view kAccepted =
    "an image is an OCI layout (folder or tar), an archive of docker save, or a folder with a root "
    "file system";

// The sum of a tar header's bytes, its own field taken as blanks: how every tar is told.
bool IsTarHeader(std::string_view block) {
  if (block.size() < 512) {
    return false;
  }
  unsigned sum = 0;
  for (size_t i = 0; i < 512; ++i) {
    sum += i >= 148 && i < 156 ? ' ' : static_cast<unsigned char>(block[i]);
  }
  unsigned written = 0;
  for (const char c : block.substr(148, 8)) {
    if (c >= '0' && c <= '7') {
      written = written * 8 + static_cast<unsigned>(c - '0');
    }
  }
  return sum == written;
}

bool Contains(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

Result<ImageKind> DetectFolder(const std::string& path) {
  const auto names = TRY_AS(sys::ListDirectory(path), "image");
  if (names.empty()) {
    return MakeError(ErrorCode::kInvalidArgument, "{} is an empty folder: {}", path, kAccepted);
  }
  const bool has_root = Contains(names, "bin") || Contains(names, "usr") || Contains(names, "etc");
  if (Contains(names, "oci-layout") || (Contains(names, "blobs") && !has_root)) {
    if (!Contains(names, "index.json") && !Contains(names, "manifest.json")) {
      return MakeError(ErrorCode::kInvalidArgument, "{} is an OCI image layout without index.json",
                       path);
    }
    return ImageKind::kLayoutFolder;
  }
  return Contains(names, "manifest.json") && !has_root ? ImageKind::kLayoutFolder
                                                       : ImageKind::kRootfs;
}

}  // namespace

Result<ImageKind> DetectImage(const std::string& path) {
  const auto info = sys::Stat(path);
  if (!info && info.error().code() == ErrorCode::kNotFound) {
    return MakeError(ErrorCode::kNotFound, "image {}: no such file or folder", path);
  }
  if (!info) {
    return tl::unexpected<Error>(Error(info.error()).Wrap("image"));
  }
  if (S_ISDIR(info->st_mode)) {
    return DetectFolder(path);
  }
  if (!S_ISREG(info->st_mode)) {
    return MakeError(ErrorCode::kInvalidArgument, "{} is neither a file nor a folder: {}", path,
                     kAccepted);
  }
  if (info->st_size == 0) {
    return MakeError(ErrorCode::kInvalidArgument, "{} is an empty file: {}", path, kAccepted);
  }
  const UniqueFd file = TRY_AS(sys::Open(path, O_RDONLY | O_NONBLOCK), "image");
  std::array<std::byte, 512> buffer{};
  const size_t size = TRY_AS(sys::ReadAt(file.get(), buffer, 0), "image {}", path);
  const std::string_view start(reinterpret_cast<const char*>(buffer.data()), size);
  if (!IsCompressed(start) && !IsTarHeader(start)) {
    return MakeError(ErrorCode::kInvalidArgument, "{} is not a tar archive: {}", path, kAccepted);
  }
  return ImageKind::kArchive;
}

ImageArgument ParseImageArgument(const std::string& argument) {
  size_t colon = std::string::npos;
  while (!sys::Exists(argument.substr(0, colon))) {
    if (colon == 0 || argument.empty()) {
      return {argument, ""};
    }
    colon = argument.rfind(':', colon == std::string::npos ? colon : colon - 1);
    if (colon == std::string::npos) {
      return {argument, ""};
    }
  }
  return {argument.substr(0, colon), colon == std::string::npos ? "" : argument.substr(colon + 1)};
}

}  // namespace bulkhead::oci
