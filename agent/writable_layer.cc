#include "agent/writable_layer.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/sysinfo.h>

#include "base/rooted_path.h"
#include "base/sys.h"

namespace bulkhead::agent {
namespace {

constexpr char kFolder[] = "/run/bulkhead/upper/";
// Only linux/fs.h of later kernels has it. The flag: write nothing more.
constexpr unsigned long kExt4Shutdown = _IOR('X', 125, uint32_t);
constexpr uint32_t kDropAll = 2;

// A folder with the owner and the mode of another.
Status MakeLike(const struct stat& model, const std::string& path) {
  TRY(sys::Mkdir(path, 0700));
  TRY(sys::Chown(path, model.st_uid, model.st_gid));
  return sys::Chmod(path, model.st_mode & 07777);
}

// Fit for /proc/1/mounts of a container, and never followed out of a share's own file system: the
// dot makes the kernel mount what the host announces there.
std::string LowerPath(const std::string& root) { return root + "/."; }

// A rename of a folder of the image is one call, as on any disk. Hard links of the image's files
// come apart when one is written to, as with every engine's overlay.
std::string OverlayOptions(const std::string& lower, const std::string& store) {
  return fmt::format(
      "lowerdir={},upperdir={}/upper,workdir={}/work,redirect_dir=on,index=off,metacopy=off,"
      "xino=off,nfs_export=off",
      LowerPath(lower), store, store);
}

Status AddFolder(const std::string& lower, const std::string& path, const std::string& source,
                 oci::Spec& spec) {
  const UniqueFd root = TRY(sys::Open(lower, O_PATH | O_DIRECTORY));
  struct stat model {};
  model.st_mode = 0755;
  if (const auto there = OpenInRoot(root.get(), path)) {
    if (const auto info = sys::FStat(there->get()); info && S_ISDIR(info->st_mode)) {
      model = *info;
    }
  }
  TRY(MakeLike(model, source));
  std::erase_if(spec.mounts, [&](const oci::Mount& mount) { return mount.destination == path; });
  spec.mounts.insert(spec.mounts.begin(), oci::Mount{path, "bind", source, {"bind"}});
  return {};
}

}  // namespace

Result<WritableLayer> WritableLayer::Create(const std::string& id, const UpperRequest& request,
                                            oci::Spec& spec) {
  WritableLayer layer;
  layer.folder_ = kFolder + id;
  layer.drive_ = request.drive;
  TRY(layer.Mount(request, spec));
  return layer;
}

WritableLayer& WritableLayer::operator=(WritableLayer&& other) noexcept {
  Unmount();
  folder_ = std::exchange(other.folder_, {});
  drive_ = std::move(other.drive_);
  return *this;
}

Status WritableLayer::MountMemory(uint64_t size) const {
  struct sysinfo info {};
  TRY(sys::CheckCall(::sysinfo(&info), "sysinfo"));
  const uint64_t total = uint64_t{info.totalram} * info.mem_unit;
  if (size > total) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "size: {} bytes are more than the guest's memory, {}", size, total);
  }
  TRY(sys::MkdirAll(store(), 0700));
  return sys::Mount("tmpfs", store(), "tmpfs", 0,
                    fmt::format("mode=700,size={}", size != 0 ? size : total / 2));
}

Status WritableLayer::Mount(const UpperRequest& request, oci::Spec& spec) {
  const std::string lower = spec.root.path;
  const std::string root = folder_ + "/root";
  TRY(sys::MkdirAll(root, 0700));
  if (drive_.empty()) {
    TRY(MountMemory(request.memory_bytes));
  }
  TRY(MakeLike(TRY(sys::Stat(LowerPath(lower))), store() + "/upper"));
  TRY(sys::Mkdir(store() + "/work", 0700));
  TRY(sys::Mkdir(store() + "/folders", 0700));
  TRY(sys::Mount("overlay", root, "overlay", 0, OverlayOptions(lower, store())));
  for (size_t i = request.folders.size(); i-- > 0;) {  // each goes before the ones before
    TRY_AS(AddFolder(lower, request.folders[i], fmt::format("{}/folders/{}", store(), i), spec),
           "folders: {}", request.folders[i]);
  }
  spec.root.path = root;
  return {};
}

void WritableLayer::Unmount() {
  if (folder_.empty()) {
    return;
  }
  if (!drive_.empty()) {
    // Nobody will read what is not on the disk yet.
    if (const auto disk = sys::Open(drive_, O_RDONLY | O_DIRECTORY)) {
      ::ioctl(disk->get(), kExt4Shutdown, &kDropAll);
    }
  }
  static_cast<void>(sys::Unmount(folder_ + "/root", MNT_DETACH));
  if (drive_.empty()) {
    static_cast<void>(sys::Unmount(store(), MNT_DETACH));
    static_cast<void>(sys::Rmdir(store()));
  }
  static_cast<void>(sys::Rmdir(folder_ + "/root"));
  static_cast<void>(sys::Rmdir(folder_));
  folder_.clear();
}

}  // namespace bulkhead::agent
