#include "base/temp_dir.h"

#include <fcntl.h>

#include <atomic>
#include <cerrno>

#include "base/sys.h"
#include "base/unique_fd.h"

namespace bulkhead {
namespace {

Result<std::vector<std::string>> NamesIn(int dir) {
  return sys::ListDirectory(fmt::format("/proc/self/fd/{}", dir));
}

// True when removed (or gone already), false when it is a directory.
Result<bool> RemoveIfFile(int dir, const std::string& name) {
  const auto removed = sys::UnlinkAt(dir, name);
  if (removed || removed.error().errnum() == ENOENT) {
    return true;
  }
  const int errnum = removed.error().errnum();
  if (errnum != EISDIR && errnum != EPERM) {
    return tl::unexpected<Error>(removed.error());
  }
  const struct stat info = TRY(sys::LStatAt(dir, name));
  if (!S_ISDIR(info.st_mode)) {
    return tl::unexpected<Error>(removed.error());
  }
  return false;
}

Result<UniqueFd> OpenForRemoval(int dir, const std::string& name) {
  constexpr int kFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
  auto opened = sys::OpenAt(dir, name, kFlags);
  if (!opened && opened.error().errnum() == EACCES) {
    TRY(sys::ChmodAt(dir, name, 0700));
    opened = sys::OpenAt(dir, name, kFlags);
  }
  return opened;
}

// Empties `child` (the directory `name` in `dir`): its directories move up into `dir`, under names
// that are free, and have their turn there.
Status Flatten(int dir, const std::string& name) {
  static std::atomic<uint64_t> counter{0};
  const UniqueFd child = TRY(OpenForRemoval(dir, name));
  for (const std::string& entry : TRY(NamesIn(child.get()))) {
    if (!TRY(RemoveIfFile(child.get(), entry))) {
      std::string free_name;
      do {
        free_name = fmt::format(".removed-{}-{}", ::getpid(), ++counter);
      } while (sys::LStatAt(dir, free_name));
      TRY(sys::RenameAt(child.get(), entry, dir, free_name));
    }
  }
  return sys::UnlinkAt(dir, name, AT_REMOVEDIR);
}

}  // namespace

Status RemoveTreeAt(int dir, const std::string& name) {
  if (TRY(RemoveIfFile(dir, name))) {
    return {};
  }
  {
    const UniqueFd top = TRY(OpenForRemoval(dir, name));
    auto names = TRY(NamesIn(top.get()));
    while (!names.empty()) {
      for (const std::string& entry : names) {
        if (!TRY(RemoveIfFile(top.get(), entry))) {
          TRY(Flatten(top.get(), entry));
        }
      }
      names = TRY(NamesIn(top.get()));
    }
  }
  return sys::UnlinkAt(dir, name, AT_REMOVEDIR);
}

Status RemoveTree(const std::string& path) { return RemoveTreeAt(AT_FDCWD, path); }

Result<TempDir> TempDir::Create(const std::string& prefix) {
  return TempDir(TRY(sys::MakeTempDir(prefix)));
}

TempDir& TempDir::operator=(TempDir&& other) noexcept {
  std::swap(path_, other.path_);
  return *this;
}

TempDir::~TempDir() {
  if (!path_.empty()) {
    (void)RemoveTree(path_);  // what stays is found by whoever sweeps the parent folder
  }
}

}  // namespace bulkhead
