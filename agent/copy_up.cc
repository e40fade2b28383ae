#include "agent/copy_up.h"

#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <string>
#include <utility>

#include "base/rooted_path.h"
#include "base/sys.h"

namespace bulkhead::agent {
namespace {

constexpr size_t kMaxDepth = 512;  // two open folders each
constexpr size_t kChunk = 1U << 20U;
constexpr mode_t kModeBits = 07777;

Result<UniqueFd> OpenFolder(int dir, const std::string& name) {
  return sys::OpenAt(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}

class Copy {
 public:
  explicit Copy(int to) : to_(to) {}

  // `path`: of `to` below the top, "" or "a/b/".
  Status Folder(int from, int to, const std::string& path, size_t depth);

 private:
  Status Entry(int from, int to, const std::string& name, const std::string& path, size_t depth);
  Status Make(int from, int to, const std::string& name, const struct stat& info);
  Status File(int from, int to, const std::string& name);
  bool Linked(int to, const std::string& name, const std::string& path, const struct stat& info);

  const int to_;
  std::map<std::pair<dev_t, ino_t>, std::string> seen_;  // files of several names
};

Status CopyAttributes(int from, int to, const std::string& name, const struct stat& info) {
  TRY(sys::ChownAt(to, name, info.st_uid, info.st_gid));
  if (!S_ISLNK(info.st_mode)) {
    TRY(sys::ChmodAt(to, name, info.st_mode & kModeBits));  // after the owner, who takes set-uid
  }
  const std::string source = fmt::format("{}/{}", FdPath(from), name);
  const std::string target = fmt::format("{}/{}", FdPath(to), name);
  for (const std::string& attribute : TRY(sys::LListXattr(source))) {
    const auto value = TRY(sys::LGetXattr(source, attribute));
    const auto set = value ? sys::LSetXattr(target, attribute, *value) : Status();
    if (!set && set.error().errnum() != EOPNOTSUPP) {  // a tmpfs keeps only some kinds
      return set;
    }
  }
  return sys::SetTimesAt(to, name, info.st_mtim);
}

Status Copy::File(int from, int to, const std::string& name) {
  // Not blocking: it may have become a pipe meanwhile.
  const UniqueFd source =
      TRY(sys::OpenAt(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
  if (!S_ISREG(TRY(sys::FStat(source.get())).st_mode)) {
    return MakeError(ErrorCode::kFailedPrecondition, "{}: it changed meanwhile", name);
  }
  const UniqueFd target = TRY(sys::OpenAt(to, name, O_WRONLY | O_CREAT | O_EXCL, 0600));
  while (true) {
    const ssize_t count = ::sendfile(target.get(), source.get(), nullptr, kChunk);
    TRY(sys::CheckCall(count, "copy {}", name));
    if (count == 0) {
      return {};
    }
  }
}

Status Copy::Make(int from, int to, const std::string& name, const struct stat& info) {
  switch (info.st_mode & S_IFMT) {
    case S_IFREG:
      return File(from, to, name);
    case S_IFDIR:
      return sys::MkdirAt(to, name, 0700);
    case S_IFLNK:
      return sys::SymlinkAt(TRY(sys::ReadLinkAt(from, name)), to, name);
    default:
      return sys::MknodAt(to, name, (info.st_mode & S_IFMT) | 0600, info.st_rdev);
  }
}

// A further name of a file that is there already. One too deep to be named is copied instead.
bool Copy::Linked(int to, const std::string& name, const std::string& path,
                  const struct stat& info) {
  if (S_ISDIR(info.st_mode) || info.st_nlink < 2) {
    return false;
  }
  const auto [first, is_new] = seen_.emplace(std::pair(info.st_dev, info.st_ino), path + name);
  return !is_new && sys::LinkAt(to_, first->second, to, name).has_value();
}

Status Copy::Entry(int from, int to, const std::string& name, const std::string& path,
                   size_t depth) {
  const struct stat info = TRY(sys::LStatAt(from, name));
  if (Linked(to, name, path, info)) {
    return {};
  }
  TRY(Make(from, to, name, info));
  if (S_ISDIR(info.st_mode)) {
    const UniqueFd source = TRY(OpenFolder(from, name));
    const UniqueFd target = TRY(OpenFolder(to, name));
    TRY(Folder(source.get(), target.get(), fmt::format("{}{}/", path, name), depth + 1));
  }
  return CopyAttributes(from, to, name, info);
}

Status Copy::Folder(int from, int to, const std::string& path, size_t depth) {
  if (depth > kMaxDepth) {
    return MakeError(ErrorCode::kInvalidArgument, "more than {} folders in one another", kMaxDepth);
  }
  for (const std::string& name : TRY(sys::ListDirectory(FdPath(from)))) {
    TRY(Entry(from, to, name, path, depth));
  }
  return {};
}

}  // namespace

Status CopyUp(int from, int to, bool own) {
  // Those given may be O_PATH.
  const UniqueFd source = TRY(sys::OpenAt(from, ".", O_RDONLY | O_DIRECTORY));
  const UniqueFd target = TRY(sys::OpenAt(to, ".", O_RDONLY | O_DIRECTORY));
  TRY(Copy(target.get()).Folder(source.get(), target.get(), "", 0));
  if (!own) {
    return {};
  }
  const struct stat info = TRY(sys::FStat(source.get()));
  return sys::ChownAt(target.get(), ".", info.st_uid, info.st_gid);
}

}  // namespace bulkhead::agent
