#include "oci/layer_writer.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <string_view>

#include "base/log.h"
#include "base/sys.h"
#include "base/temp_dir.h"

namespace bulkhead::oci {
namespace {

constexpr std::string_view kWhiteout = ".wh.";
constexpr std::string_view kOpaqueWhiteout = ".wh..wh..opq";
constexpr std::string_view kAufsPrefix = ".wh..wh.";  // bookkeeping of AUFS: no files
constexpr size_t kMaxNameLength = 4096;
constexpr size_t kMaxWarnings = 32;
// Symbolic links are followed as they will be in the container: "/" is the layer's root.
constexpr uint64_t kResolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;

bool IsWhiteoutDevice(const struct stat& info) {
  return S_ISCHR(info.st_mode) && info.st_rdev == 0;
}

mode_t FormatBits(TarEntry::Type type) {
  switch (type) {
    case TarEntry::Type::kFifo:
      return S_IFIFO;
    case TarEntry::Type::kCharDevice:
      return S_IFCHR;
    default:
      return S_IFBLK;
  }
}

Result<uint32_t> CheckId(int64_t id, std::string_view what) {
  // The greatest value means "leave as it is" to chown.
  if (id < 0 || id >= std::numeric_limits<uint32_t>::max()) {
    return MakeError(ErrorCode::kInvalidArgument, "{} {} is out of range", what, id);
  }
  return static_cast<uint32_t>(id);
}

}  // namespace

Result<LayerWriter> LayerWriter::Create(const std::string& root) {
  return LayerWriter(TRY(sys::Open(root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)));
}

Result<LayerWriter::Place> LayerWriter::PlaceOf(const std::string& name) {
  if (name.size() > kMaxNameLength) {
    return MakeError(ErrorCode::kInvalidArgument, "the name is longer than {} bytes",
                     kMaxNameLength);
  }
  Place place;
  for (size_t begin = 0; begin < name.size();) {
    const size_t end = std::min(name.find('/', begin), name.size());
    const std::string part = name.substr(begin, end - begin);
    begin = end + 1;
    if (part == "..") {
      return MakeError(ErrorCode::kInvalidArgument,
                       "the name contains \"..\": it leaves the layer");
    }
    if (part.empty() || part == ".") {
      continue;
    }
    place.parent = place.path.empty() ? "." : place.path;
    place.path = place.path.empty() ? part : place.path + "/" + part;
    place.name = part;
  }
  if (place.path.empty()) {
    place = Place{".", ".", "."};
  }
  return place;
}

Status LayerWriter::Add(const TarEntry& entry, TarReader& data) {
  const auto context = [&] { return "entry " + JsonQuote(entry.name.substr(0, kMaxNameLength)); };
  if (!entry.warning.empty()) {
    Warn(fmt::format("{}: {}", context(), entry.warning));
  }
  const Place place = TRY_AS(PlaceOf(entry.name), "{}", context());
  TRY_AS(AddPlaced(entry, place, data), "{}", context());
  return {};
}

Status LayerWriter::AddPlaced(const TarEntry& entry, const Place& place, TarReader& data) {
  if (place.name.starts_with(kWhiteout)) {
    return AddWhiteout(place);
  }
  if (place.path == "." && entry.type != TarEntry::Type::kDirectory) {
    return MakeError(ErrorCode::kInvalidArgument, "the root of a layer must be a directory");
  }
  const int parent = TRY(ParentFd(place.parent));
  switch (entry.type) {
    case TarEntry::Type::kDirectory:
      TRY(AddDirectory(place));
      directory_times_[place.path] = entry.mtime;
      break;
    case TarEntry::Type::kFile:
      TRY(AddFile(entry, place, data));
      break;
    case TarEntry::Type::kSymlink:
      TRY(Replace(parent, place, [&] { return sys::SymlinkAt(entry.target, parent, place.name); }));
      break;
    case TarEntry::Type::kHardLink:
      return AddHardLink(entry, place);  // its metadata are those of the file
    case TarEntry::Type::kFifo:
    case TarEntry::Type::kCharDevice:
    case TarEntry::Type::kBlockDevice:
      TRY(Replace(parent, place, [&] {
        return sys::MknodAt(parent, place.name, FormatBits(entry.type) | 0600U, entry.device);
      }));
      break;
    case TarEntry::Type::kUnknown:
      return MakeError(ErrorCode::kUnimplemented, "a type of entry that layers do not have");
  }
  return SetMetadata(entry, TRY(ParentFd(place.parent)), place);
}

Status LayerWriter::AddWhiteout(const Place& place) {
  const int parent = TRY(ParentFd(place.parent));
  if (place.name == kOpaqueWhiteout) {
    return SetOpaque(parent, ".");
  }
  if (place.name.starts_with(kAufsPrefix)) {
    return {};
  }
  const std::string hidden = place.name.substr(kWhiteout.size());
  if (hidden.empty() || hidden == "." || hidden == "..") {
    return MakeError(ErrorCode::kInvalidArgument, "a whiteout of no file");
  }
  const auto made = sys::MknodAt(parent, hidden, S_IFCHR, 0);
  if (made || made.error().errnum() != EEXIST) {
    return made;
  }
  // A whiteout hides what lower layers have; what this one has stays.
  const struct stat info = TRY(sys::LStatAt(parent, hidden));
  return S_ISDIR(info.st_mode) ? SetOpaque(parent, hidden) : Status();
}

Status LayerWriter::AddDirectory(const Place& place) {
  if (place.path == ".") {
    return {};
  }
  const int parent = TRY(ParentFd(place.parent));
  const auto made = sys::MkdirAt(parent, place.name, 0755);
  if (made || made.error().errnum() != EEXIST) {
    return made;
  }
  const struct stat info = TRY(sys::LStatAt(parent, place.name));
  if (S_ISDIR(info.st_mode)) {
    return {};
  }
  // What stood here hid the lower layers' directory of this name, which must stay hidden.
  TRY(RemoveTreeAt(parent, place.name));
  Forget(place);
  const int again = TRY(ParentFd(place.parent));
  TRY(sys::MkdirAt(again, place.name, 0755));
  return SetOpaque(again, place.name);
}

Status LayerWriter::AddFile(const TarEntry& entry, const Place& place, TarReader& data) {
  const int parent = TRY(ParentFd(place.parent));
  UniqueFd file;
  TRY(Replace(parent, place, [&]() -> Status {
    file = TRY(sys::OpenAt(parent, place.name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
    return {};
  }));
  uint64_t end = 0;
  while (const auto block = TRY(data.NextBlock())) {
    TRY(sys::WriteAllAt(file.get(), block->data, block->offset));
    end = std::max(end, block->offset + block->data.size());
  }
  if (entry.size > end) {  // it ends in a hole
    TRY(sys::Ftruncate(file.get(), static_cast<off_t>(entry.size)));
  }
  return {};
}

Status LayerWriter::AddHardLink(const TarEntry& entry, const Place& place) {
  const std::string target = JsonQuote(entry.target.substr(0, kMaxNameLength));
  const Place from = TRY_AS(PlaceOf(entry.target), "hard link to {}", target);
  const UniqueFd folder =
      TRY_AS(OpenFolder(from.parent), "hard link to {}, which is not in this layer", target);
  const auto info = sys::LStatAt(folder.get(), from.name);
  if (!info) {
    return MakeError(ErrorCode::kInvalidArgument, "hard link to {}, which is not in this layer",
                     target);
  }
  if (S_ISDIR(info->st_mode)) {
    return MakeError(ErrorCode::kInvalidArgument, "hard link to {}, which is a directory", target);
  }
  const int parent = TRY(ParentFd(place.parent));
  if (const auto own = sys::LStatAt(parent, place.name);
      own && own->st_ino == info->st_ino && own->st_dev == info->st_dev) {
    return {};
  }
  return Replace(parent, place,
                 [&] { return sys::LinkAt(folder.get(), from.name, parent, place.name); });
}

Result<UniqueFd> LayerWriter::OpenFolder(const std::string& path) const {
  while (true) {
    auto opened = sys::OpenAt2(root_.get(), path, O_PATH | O_DIRECTORY, 0, kResolve);
    // The kernel asks to try again when anything was renamed during a look-up with "..".
    if (opened || opened.error().errnum() != EAGAIN) {
      return opened;
    }
  }
}

Result<int> LayerWriter::ParentFd(const std::string& path) {
  if (parent_.valid() && parent_path_ == path) {
    return parent_.get();
  }
  auto opened = OpenFolder(path);
  if (!opened && (opened.error().errnum() == ENOENT || opened.error().errnum() == ENOTDIR)) {
    opened = MakeFolders(path);
  }
  parent_ = TRY(std::move(opened));
  parent_path_ = path;
  return parent_.get();
}

// Some builders leave out the entries of parent directories.
Result<UniqueFd> LayerWriter::MakeFolders(const std::string& path) {
  UniqueFd folder = TRY(OpenFolder("."));
  for (size_t begin = 0; begin < path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string name = path.substr(begin, end - begin);
    const std::string prefix = path.substr(0, end);
    begin = end + 1;
    auto next = OpenFolder(prefix);
    if (!next) {
      const auto info = sys::LStatAt(folder.get(), name);
      if (info && !IsWhiteoutDevice(*info)) {
        return MakeError(ErrorCode::kInvalidArgument, "{} is not a directory", JsonQuote(prefix));
      }
      if (info) {
        TRY(sys::UnlinkAt(folder.get(), name));
      }
      TRY(sys::MkdirAt(folder.get(), name, 0755));
      TRY(sys::ChmodAt(folder.get(), name, 0755));
      if (info) {
        TRY(SetOpaque(folder.get(), name));
      }
      next = OpenFolder(prefix);
    }
    folder = TRY(std::move(next));
  }
  return folder;
}

Status LayerWriter::Replace(int parent, const Place& place, const std::function<Status()>& create) {
  const auto created = create();
  if (created || created.error().errnum() != EEXIST) {
    return created;
  }
  TRY(RemoveTreeAt(parent, place.name));
  const auto again = create();
  Forget(place);
  return again;
}

void LayerWriter::Forget(const Place& place) {
  parent_.Reset();
  directory_times_.erase(place.path);
  const std::string below = place.path + "/";
  auto it = directory_times_.lower_bound(below);
  while (it != directory_times_.end() && it->first.starts_with(below)) {
    it = directory_times_.erase(it);
  }
}

Status LayerWriter::SetOpaque(int parent, const std::string& name) {
  return sys::LSetXattr(fmt::format("/proc/self/fd/{}/{}", parent, name), "trusted.overlay.opaque",
                        "y");
}

Status LayerWriter::SetMetadata(const TarEntry& entry, int parent, const Place& place) {
  const uid_t uid = TRY(CheckId(entry.uid, "user id"));
  const gid_t gid = TRY(CheckId(entry.gid, "group id"));
  TRY(sys::ChownAt(parent, place.name, uid, gid));
  if (entry.type != TarEntry::Type::kSymlink) {
    TRY(sys::ChmodAt(parent, place.name, entry.mode));  // after chown, which clears set-id bits
  }
  if (!entry.xattrs.empty()) {
    TRY(SetXattrs(entry, fmt::format("/proc/self/fd/{}/{}", parent, place.name)));
  }
  return sys::SetTimesAt(parent, place.name, entry.mtime);
}

Status LayerWriter::SetXattrs(const TarEntry& entry, const std::string& path) {
  for (const auto& [name, value] : entry.xattrs) {
    // They steer overlayfs itself (redirects, metadata copies): not for an image to set.
    if (name.starts_with("trusted.overlay.") || name.starts_with("user.overlay.")) {
      Warn(fmt::format("attribute {} was left out: it belongs to overlayfs", JsonQuote(name)));
      continue;
    }
    const auto set = sys::LSetXattr(path, name, value);
    if (set) {
      continue;
    }
    const int errnum = set.error().errnum();
    if (errnum != ENOTSUP && errnum != EPERM && errnum != EINVAL) {
      return set;
    }
    Warn(fmt::format("attribute {} was left out: the cache's file system does not take it",
                     JsonQuote(name)));
  }
  return {};
}

void LayerWriter::Warn(std::string warning) {
  if (warnings_.size() < kMaxWarnings &&
      std::find(warnings_.begin(), warnings_.end(), warning) == warnings_.end()) {
    warnings_.push_back(std::move(warning));
  }
}

Status LayerWriter::Finish() {
  for (const auto& [path, time] : directory_times_) {
    const Place place = TRY(PlaceOf(path));
    const auto parent = OpenFolder(place.parent);
    if (parent) {  // else a link took the place of one of its parents
      const auto set = sys::SetTimesAt(parent->get(), place.name, time);
      if (!set && set.error().errnum() != ENOENT) {
        return set;
      }
    }
  }
  return {};
}

}  // namespace bulkhead::oci
