#include "shim/volume_source.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <charconv>
#include <sstream>

#include "base/sys.h"
#include "shim/mount_tree.h"

namespace bulkhead::shim {
namespace {

// The kernel writes space, tab, newline and backslash as \ooo.
std::string Unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned code = 0;
    const char* digits = text.data() + i + 1;
    if (text[i] == '\\' && i + 3 < text.size() &&
        std::from_chars(digits, digits + 3, code, 8).ptr == digits + 3) {
      out += static_cast<char>(code);
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

Result<struct statx> Statx(const UniqueFd& file, const std::string& name) {
  struct statx info {};
  TRY(sys::CheckCall(::statx(file.get(), "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT,
                             STATX_TYPE | STATX_INO | STATX_MNT_ID, &info),
                     "{}", name));
  return info;
}

std::string IdentityOf(const UniqueFd& file, const struct statx& info, bool recursive) {
  const auto path = sys::ReadLink(fmt::format("/proc/thread-self/fd/{}", file.get()));
  const auto all = sys::ReadFile("/proc/thread-self/mountinfo");
  if (!path || !all || (info.stx_mask & STATX_MNT_ID) == 0) {
    return "";
  }
  const std::string mounts = MountsOf(*all, info.stx_mnt_id, *path, recursive);
  return mounts.empty() ? ""
                        : fmt::format("{}:{} {} {}\n{}", info.stx_dev_major, info.stx_dev_minor,
                                      info.stx_ino, *path, mounts);
}

Result<VolumeSource> OpenHere(const std::string& path, bool recursive) {
  const UniqueFd file(::open_tree(AT_FDCWD, path.c_str(), OPEN_TREE_CLOEXEC));
  TRY(sys::CheckCall(file.get(), "{}", path));
  const struct statx info = TRY(Statx(file, path));
  if (S_ISCHR(info.stx_mode) || S_ISBLK(info.stx_mode)) {
    return MakeError(ErrorCode::kUnimplemented,
                     "{} is a device of the host: a virtual machine cannot share it", path);
  }
  std::string identity = IdentityOf(file, info, recursive);
  UniqueFd tree = TRY(CopyTree(file, recursive, path));
  return VolumeSource{std::move(tree), S_ISDIR(info.stx_mode), std::move(identity)};
}

}  // namespace

std::string MountsOf(const std::string& mountinfo, uint64_t id, const std::string& path,
                     bool below) {
  constexpr int kMountPoint = 5;  // after id, parent, device, root
  constexpr int kOptions = 6;
  const std::string inside = path == "/" ? path : path + "/";
  bool found = false;
  std::string out;
  std::istringstream lines(mountinfo);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string head;
    std::string place;
    for (int field = 1; field <= kOptions; ++field) {
      std::string word;
      words >> word;
      head += word + (field < kOptions ? " " : "\n");
      place = field == kMountPoint ? Unescape(word) : place;
    }
    const bool own = head.starts_with(std::to_string(id) + " ");
    found = found || own;
    if (own || (below && place.starts_with(inside))) {
      out += head;
    }
  }
  return found ? out : "";
}

Result<VolumeSource> OpenVolumeSource(const std::string& path, bool recursive, int view) {
  return InView(view, [&] { return OpenHere(path, recursive); });
}

}  // namespace bulkhead::shim
