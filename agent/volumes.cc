#include "agent/volumes.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <cstdint>
#include <optional>

#include "base/sys.h"
#include "oci/mount_options.h"

namespace bulkhead::agent {
namespace {

// Of what is there without mounting anything.
std::optional<uint64_t> MountId(const std::string& path) {
  struct statx info {};
  if (::statx(AT_FDCWD, path.c_str(), AT_NO_AUTOMOUNT, STATX_MNT_ID, &info) != 0) {
    return std::nullopt;
  }
  return info.stx_mnt_id;
}

}  // namespace

Volume::~Volume() { static_cast<void>(sys::Unmount(path_, MNT_DETACH)); }

std::vector<std::shared_ptr<Volume>> Volumes::Hold(const oci::Spec& spec) {
  std::vector<std::shared_ptr<Volume>> held;
  for (const oci::Mount& mount : spec.mounts) {
    if (!oci::IsBind(mount)) {
      continue;
    }
    if (auto volume = HoldOne(mount.source)) {
      held.push_back(std::move(volume));
    }
  }
  return held;
}

std::shared_ptr<Volume> Volumes::HoldOne(const std::string& path) {
  const std::scoped_lock lock(mutex_);
  std::erase_if(volumes_, [](const auto& entry) { return entry.second.expired(); });
  if (const auto found = volumes_.find(path); found != volumes_.end()) {
    if (auto volume = found->second.lock()) {
      return volume;
    }
  }
  const auto before = MountId(path);
  const auto walked = sys::Open(path, O_RDONLY | O_DIRECTORY);
  if (!before || !walked || MountId(path) == before) {
    return nullptr;  // a file, or of a mount that is somebody else's
  }
  auto volume = std::make_shared<Volume>(path);
  volumes_[path] = volume;
  return volume;
}

}  // namespace bulkhead::agent
