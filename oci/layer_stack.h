// Reads single files from layers as overlayfs would show them merged, without mounting anything.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead::oci {

class LayerStack {
 public:
  // Folders, lowest first; a plain root file system is a stack of one.
  static Result<LayerStack> Open(const std::vector<std::string>& layers);

  // The content of the regular file at `path`, or nullopt when there is none. Symbolic links are
  // followed inside the merged tree; "/" is its root.
  Result<std::optional<std::string>> ReadFile(const std::string& path, size_t limit) const;

 private:
  using Directory = std::vector<UniqueFd>;  // the same one in several layers, topmost first
  struct Found {
    std::optional<Directory> directory;
    std::optional<std::string> link;
    UniqueFd file;
  };
  static Result<Found> LookUp(const Directory& directory, const std::string& name);

  Directory root_;
};

}  // namespace bulkhead::oci
