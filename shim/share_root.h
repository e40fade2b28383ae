// The folder at the top of what the guest is shown.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <utility>

#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead::shim {

// Whoever owns the guest's kernel is root in what is shared, and would lay links where the host is
// about to make, mount or remove something. So the mount that is shared is read-only, all but what
// is mounted in it, and its folders are made and removed behind it.
class ShareRoot {
 public:
  // An existing folder becomes it.
  static Result<std::unique_ptr<ShareRoot>> Make(const std::string& path);
  ~ShareRoot();
  ShareRoot(const ShareRoot&) = delete;
  ShareRoot& operator=(const ShareRoot&) = delete;

  const std::string& path() const { return path_; }
  // Where something is mounted that has this name below it.
  std::string PathOf(const std::string& name) const { return path_ + "/" + name; }

  Status MakeFolder(const std::string& name, mode_t mode = 0755) const;
  Status MakeFile(const std::string& name) const;
  // With what is mounted there. Only an empty folder goes, or a file: were an unmount to fail, the
  // files below would be the user's.
  void Remove(const std::string& name) const;

 private:
  ShareRoot(std::string path, UniqueFd behind)
      : path_(std::move(path)), behind_(std::move(behind)) {}

  const std::string path_;
  const UniqueFd behind_;  // the folder below the mount
};

}  // namespace bulkhead::shim
