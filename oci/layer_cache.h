// Unpacked layers on disk, shared by every image and every process that uses the same folder.
//
//   layers/sha256-<diff id>/   a complete layer: it is renamed into place, so it exists or does not
//   index/<key>.json           what an archive holds, so that it need not be read again
//   tmp/XXXXXX/                work in progress, locked by its maker; unlocked: garbage
//   lock                       byte 0: making and sweeping tmp/; byte N: the layer with hash N
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/temp_dir.h"
#include "base/unique_fd.h"
#include "oci/digest.h"

namespace bulkhead::oci {

class LayerCache {
 public:
  // Makes the folder when needed and removes what killed processes left in tmp/.
  static Result<LayerCache> Open(const std::string& folder);

  std::string LayerPath(const Digest& diff_id) const;
  bool Has(const Digest& diff_id) const;

  // Returns the layer's folder. When the layer is not there, `fill` is called once, however many
  // processes ask at the same time, with an empty folder to fill.
  using Fill = std::function<Status(const std::string& folder)>;
  Result<std::string> Get(const Digest& diff_id, const Fill& fill) const;

  // nullopt when there is none.
  std::optional<std::string> ReadIndex(const std::string& key) const;
  Status WriteIndex(const std::string& key, std::string_view json) const;

  // A folder for work in progress, on the file system of the layers.
  class Scratch {
   public:
    const std::string& path() const { return folder_.path(); }

   private:
    friend class LayerCache;
    Scratch(UniqueFd lock, TempDir folder) : lock_(std::move(lock)), folder_(std::move(folder)) {}

    UniqueFd lock_;  // outlives folder_, so that no sweep meets the removal
    TempDir folder_;
  };
  Result<Scratch> MakeScratch() const;

 private:
  explicit LayerCache(std::string folder) : folder_(std::move(folder)) {}
  Result<UniqueFd> Lock(uint64_t byte) const;
  Status Sweep() const;
  std::string IndexPath(const std::string& key) const;

  std::string folder_;
};

}  // namespace bulkhead::oci
