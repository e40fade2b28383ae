// Writes the entries of a layer's tar below one folder, in the form that overlayfs wants of a lower
// directory. The tar is hostile: whatever it says, nothing outside the folder is touched.
#pragma once

#include <ctime>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "oci/tar_reader.h"

namespace bulkhead::oci {

class LayerWriter {
 public:
  // `root`: an empty folder.
  static Result<LayerWriter> Create(const std::string& root);

  // The entry's data is read from `data`. An error names the entry.
  Status Add(const TarEntry& entry, TarReader& data);
  // After the last entry: what had to wait (the times of directories).
  Status Finish();
  // What was left out because the file system cannot hold it; each said once.
  const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  struct Place {
    std::string path;    // "usr/bin/x"; "." for the layer's root
    std::string parent;  // "usr/bin"; "." at the top
    std::string name;    // "x"
  };

  explicit LayerWriter(UniqueFd root) : root_(std::move(root)) {}
  static Result<Place> PlaceOf(const std::string& name);

  Status AddPlaced(const TarEntry& entry, const Place& place, TarReader& data);
  Status AddWhiteout(const Place& place);
  Status AddFile(const TarEntry& entry, const Place& place, TarReader& data);
  Status AddDirectory(const Place& place);
  Status AddHardLink(const TarEntry& entry, const Place& place);

  Result<UniqueFd> OpenFolder(const std::string& path) const;
  Result<int> ParentFd(const std::string& path);
  Result<UniqueFd> MakeFolders(const std::string& path);
  // Calls `create`; when something stands in its place, removes that and calls it again.
  Status Replace(int parent, const Place& place, const std::function<Status()>& create);
  // Drops what is known of a place whose content was removed.
  void Forget(const Place& place);
  Status SetOpaque(int parent, const std::string& name);
  Status SetMetadata(const TarEntry& entry, int parent, const Place& place);
  Status SetXattrs(const TarEntry& entry, const std::string& path);
  void Warn(std::string warning);

  UniqueFd root_;
  std::string parent_path_;  // what parent_ is, so that neighbours share one look-up
  UniqueFd parent_;
  std::map<std::string, timespec> directory_times_;
  std::vector<std::string> warnings_;
};

}  // namespace bulkhead::oci
