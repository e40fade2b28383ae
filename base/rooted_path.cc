#include "base/rooted_path.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>

#include "base/sys.h"

namespace bulkhead {
namespace {

constexpr int kMaxDepth = 255;
constexpr mode_t kFolderMode = 0755;

std::string Clean(std::string_view path) {
  return std::filesystem::path(fmt::format("/{}", path)).lexically_normal().string();
}

Result<std::string> ReadLinkAt(int dir, const std::string& name) {
  std::array<char, 4096> buffer{};
  const ssize_t size = ::readlinkat(dir, name.c_str(), buffer.data(), buffer.size());
  TRY(sys::CheckCall(size, "readlink {}", name));
  return std::string(buffer.data(), static_cast<size_t>(size));
}

Status MakeNode(int parent, const std::string& name, NodeKind kind) {
  if (kind == NodeKind::kDirectory) {
    return sys::CheckCall(::mkdirat(parent, name.c_str(), kFolderMode), "mkdir {}", name);
  }
  TRY(sys::OpenAt(parent, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY, 0644));
  return {};
}

Result<UniqueFd> Ensure(int root, const std::string& path, NodeKind kind, int depth) {
  auto found = OpenInRoot(root, path);
  if (found || found.error().errnum() != ENOENT) {
    return found;
  }
  const size_t slash = path.find_last_of('/');
  const std::string name = path.substr(slash + 1);
  if (depth > kMaxDepth || name.empty() || name == "." || name == "..") {
    return found;
  }
  const std::string parent_path = slash == 0 ? "/" : path.substr(0, slash);
  const UniqueFd parent = TRY(Ensure(root, parent_path, NodeKind::kDirectory, depth + 1));
  if (const auto target = ReadLinkAt(parent.get(), name)) {
    const bool absolute = target->starts_with('/');
    return Ensure(root, absolute ? *target : fmt::format("{}/{}", parent_path, *target), kind,
                  depth + 1);
  }
  if (auto made = MakeNode(parent.get(), name, kind); !made && made.error().errnum() != EEXIST) {
    return tl::unexpected<Error>(std::move(made).error().Wrap(path));
  }
  return OpenInRoot(root, path);
}

}  // namespace

Result<UniqueFd> OpenInRoot(int root, const std::string& path, int extra_flags) {
  return sys::OpenAt2(root, path, O_PATH | extra_flags, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

Result<UniqueFd> EnsureInRoot(int root, const std::string& path, NodeKind kind) {
  const auto [parent, name] = Split(path);
  return Ensure(root, fmt::format("{}/{}", parent == "/" ? "" : parent, name), kind, 0);
}

std::string FdPath(int fd) { return fmt::format("/proc/self/fd/{}", fd); }

SplitPath Split(std::string_view path) {
  std::string clean = Clean(path);
  while (clean.size() > 1 && clean.back() == '/') {
    clean.pop_back();
  }
  const size_t slash = clean.find_last_of('/');
  return {slash == 0 ? "/" : clean.substr(0, slash), clean.substr(slash + 1)};
}

}  // namespace bulkhead
