// Paths inside a container's root file system. The image is not trusted: a symlink in it must not
// lead out, so the kernel resolves every path with the root as its boundary.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead {

enum class NodeKind { kDirectory, kFile };

// An O_PATH fd of what `path` names under `root`; absolute links and ".." stay inside.
Result<UniqueFd> OpenInRoot(int root, const std::string& path, int extra_flags = 0);

// The same, after making what is missing: folders 0755, and at the end an empty file or a folder.
// A dangling link at any place gets its target made, inside the root.
Result<UniqueFd> EnsureInRoot(int root, const std::string& path, NodeKind kind);

// "/proc/self/fd/N": a name for system calls that take no fd.
std::string FdPath(int fd);

// Folder and last name of an absolute path, which is cleaned first ("/a/./b/" is "/a" and "b").
struct SplitPath {
  std::string parent;
  std::string name;
};
SplitPath Split(std::string_view path);

}  // namespace bulkhead
