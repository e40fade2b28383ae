// A folder that is removed, with all it holds, when its owner goes.
#pragma once

#include <string>
#include <utility>

#include "base/result.h"

namespace bulkhead {

class TempDir {
 public:
  // A new folder of mode 0700: `prefix` and six random characters.
  static Result<TempDir> Create(const std::string& prefix);

  TempDir(TempDir&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  TempDir& operator=(TempDir&& other) noexcept;
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir();

  const std::string& path() const { return path_; }
  // Lets it live on.
  std::string Release() { return std::exchange(path_, {}); }

 private:
  explicit TempDir(std::string path) : path_(std::move(path)) {}

  std::string path_;
};

// Removes what `name` in the folder `dir` is, without following links; nothing there is success.
// Unlike sys::RemoveAll it needs neither stack nor fds for the depth of the tree, which whoever
// wrote a hostile tar chose.
Status RemoveTreeAt(int dir, const std::string& name);
Status RemoveTree(const std::string& path);

}  // namespace bulkhead
