#include "oci/layer_cache.h"

#include <fcntl.h>

#include <cerrno>
#include <charconv>
#include <cstdint>

#include "base/sys.h"

namespace bulkhead::oci {
namespace {

constexpr uint64_t kScratchLock = 0;
constexpr size_t kMaxIndexSize = 8U << 20U;

uint64_t LockOf(const Digest& diff_id) {
  uint64_t value = 0;
  std::from_chars(diff_id.hex.data(), diff_id.hex.data() + 15, value, 16);  // an off_t is signed
  return value + 1;
}

bool IsFolder(const std::string& path) {
  const auto info = sys::LStat(path);
  return info && S_ISDIR(info->st_mode);
}

}  // namespace

Result<LayerCache> LayerCache::Open(const std::string& folder) {
  LayerCache cache(folder);
  for (const char* part : {"layers", "index", "tmp"}) {
    const std::string path = folder + "/" + part;
    if (!IsFolder(path)) {
      if (!IsFolder(folder)) {
        TRY_AS(sys::MkdirAll(folder), "image cache");
        // Layers hold set-id files of strangers: no way in for other users.
        TRY_AS(sys::Chmod(folder, 0700), "image cache");
      }
      TRY_AS(sys::MkdirAll(path, 0700), "image cache");
    }
  }
  TRY_AS(cache.Sweep(), "image cache");
  return cache;
}

std::string LayerCache::LayerPath(const Digest& diff_id) const {
  return fmt::format("{}/layers/{}", folder_, diff_id.FileName());
}

bool LayerCache::Has(const Digest& diff_id) const { return IsFolder(LayerPath(diff_id)); }

std::string LayerCache::IndexPath(const std::string& key) const {
  return fmt::format("{}/index/{}.json", folder_, key);
}

Result<UniqueFd> LayerCache::Lock(uint64_t byte) const {
  UniqueFd file = TRY(sys::Open(folder_ + "/lock", O_RDWR | O_CREAT, 0600));
  TRY(sys::LockByte(file.get(), byte));
  return file;
}

Result<std::string> LayerCache::Get(const Digest& diff_id, const Fill& fill) const {
  std::string path = LayerPath(diff_id);
  if (Has(diff_id)) {
    return path;
  }
  const UniqueFd lock = TRY(Lock(LockOf(diff_id)));
  if (Has(diff_id)) {  // another made it while this one waited
    return path;
  }
  const Scratch scratch = TRY(MakeScratch());
  const std::string folder = scratch.path() + "/layer";
  TRY(sys::Mkdir(folder, 0755));
  TRY(sys::Chmod(folder, 0755));
  TRY(fill(folder));
  TRY(sys::Rename(folder, path));
  return path;
}

std::optional<std::string> LayerCache::ReadIndex(const std::string& key) const {
  auto text = sys::ReadFile(IndexPath(key), kMaxIndexSize);
  return text ? std::optional(*std::move(text)) : std::nullopt;
}

Status LayerCache::WriteIndex(const std::string& key, std::string_view json) const {
  const Scratch scratch = TRY(MakeScratch());
  const std::string file = scratch.path() + "/index";
  TRY(sys::WriteFile(file, json, 0600));
  return sys::Rename(file, IndexPath(key));
}

Result<LayerCache::Scratch> LayerCache::MakeScratch() const {
  const UniqueFd guard = TRY(Lock(kScratchLock));  // no sweep between mkdir and lock
  TempDir folder = TRY(TempDir::Create(folder_ + "/tmp/"));
  UniqueFd lock = TRY(sys::Open(folder.path(), O_RDONLY | O_DIRECTORY));
  TRY(sys::LockFile(lock.get(), false));
  return Scratch(std::move(lock), std::move(folder));
}

Status LayerCache::Sweep() const {
  const std::string tmp = folder_ + "/tmp";
  if (TRY(sys::ListDirectory(tmp)).empty()) {
    return {};
  }
  std::vector<std::pair<std::string, UniqueFd>> garbage;
  {
    const UniqueFd guard = TRY(Lock(kScratchLock));
    for (const std::string& name : TRY(sys::ListDirectory(tmp))) {
      std::string path = fmt::format("{}/{}", tmp, name);
      auto folder = sys::Open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      if (folder && TRY(sys::LockFile(folder->get(), false))) {
        garbage.emplace_back(std::move(path), std::move(*folder));
      }
    }
  }
  for (const auto& [path, lock] : garbage) {
    TRY(RemoveTree(path));
  }
  return {};
}

}  // namespace bulkhead::oci
