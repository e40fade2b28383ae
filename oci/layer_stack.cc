#include "oci/layer_stack.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "base/log.h"
#include "base/sys.h"

namespace bulkhead::oci {
namespace {

constexpr int kMaxLinks = 40;
constexpr size_t kMaxPathParts = 1000;

// Puts the parts of `path` on top of what is left to walk, the first part last.
void PushParts(const std::string& path, std::vector<std::string>& left) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin < path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    if (end > begin) {
      parts.push_back(path.substr(begin, end - begin));
    }
    begin = end + 1;
  }
  left.insert(left.end(), parts.rbegin(), parts.rend());
}

}  // namespace

Result<LayerStack> LayerStack::Open(const std::vector<std::string>& layers) {
  LayerStack stack;
  for (auto it = layers.rbegin(); it != layers.rend(); ++it) {
    stack.root_.push_back(TRY(sys::Open(*it, O_PATH | O_DIRECTORY)));
  }
  return stack;
}

Result<LayerStack::Found> LayerStack::LookUp(const Directory& directory, const std::string& name) {
  Found found;
  for (const UniqueFd& layer : directory) {
    const auto info = sys::LStatAt(layer.get(), name);
    if (!info) {
      if (info.error().errnum() == ENOENT) {
        continue;
      }
      return tl::unexpected<Error>(info.error());
    }
    if (!S_ISDIR(info->st_mode)) {
      if (found.directory) {
        break;  // the directory above replaced it
      }
      if (S_ISLNK(info->st_mode)) {
        found.link = TRY(sys::ReadLinkAt(layer.get(), name));
      } else if (S_ISREG(info->st_mode)) {
        found.file = TRY(sys::OpenAt(layer.get(), name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
      }  // else a whiteout, or nothing that can be read
      break;
    }
    if (!found.directory) {
      found.directory.emplace();
    }
    found.directory->push_back(
        TRY(sys::OpenAt(layer.get(), name, O_PATH | O_DIRECTORY | O_NOFOLLOW)));
    const auto opaque =
        TRY(sys::LGetXattr(fmt::format("/proc/self/fd/{}/.", found.directory->back().get()),
                           "trusted.overlay.opaque"));
    if (opaque == "y") {
      break;
    }
  }
  return found;
}

Result<std::optional<std::string>> LayerStack::ReadFile(const std::string& path,
                                                        size_t limit) const {
  std::vector<Directory> walked;  // below the root
  std::vector<std::string> left;
  PushParts(path, left);
  int links = 0;
  while (!left.empty()) {
    const std::string name = std::move(left.back());
    left.pop_back();
    if (name == ".") {
      continue;
    }
    if (name == "..") {
      if (!walked.empty()) {
        walked.pop_back();
      }
      continue;
    }
    Found found = TRY_AS(LookUp(walked.empty() ? root_ : walked.back(), name), "{}", path);
    if (found.link) {
      if (found.link->starts_with('/')) {
        walked.clear();
      }
      PushParts(*found.link, left);
      if (++links > kMaxLinks || left.size() > kMaxPathParts) {
        return MakeErrno(ELOOP, "{}", path);
      }
    } else if (found.directory) {
      walked.push_back(std::move(*found.directory));
    } else if (found.file.valid() && left.empty()) {
      return TRY(sys::ReadFd(found.file.get(), limit, path));
    } else {
      return std::nullopt;
    }
  }
  return std::nullopt;
}

}  // namespace bulkhead::oci
