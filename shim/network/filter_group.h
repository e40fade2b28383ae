// The control group of a loopback filter (loopback_filter.h): below our own of cgroup v2, which
// need not be mounted anywhere.
#pragma once

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead::shim {

// In a pod's folder: the path of its group.
inline constexpr char kFilterGroupFile[] = "net-group";

class FilterGroup {
 public:
  static Result<FilterGroup> Make();
  FilterGroup(FilterGroup&&) noexcept = default;
  FilterGroup& operator=(FilterGroup&&) = delete;
  ~FilterGroup();

  int fd() const { return group_.get(); }
  const std::string& path() const { return path_; }  // from the hierarchy's root

  // One that a killed daemon has left, as well. What was killed in it gets a moment to end. One
  // that is gone is success.
  static Status Remove(const std::string& path);

 private:
  FilterGroup(std::string path, UniqueFd group)
      : path_(std::move(path)), group_(std::move(group)) {}

  std::string path_;
  UniqueFd group_;
};

}  // namespace bulkhead::shim
