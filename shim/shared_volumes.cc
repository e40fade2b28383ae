#include "shim/shared_volumes.h"

#include <sys/mount.h>

#include "base/sys.h"
#include "oci/mount_options.h"
#include "shim/mount_tree.h"
#include "shim/volume_source.h"

namespace bulkhead::shim {
namespace {

// What the host holds, whatever the guest does. The rest of the options is the guest's affair.
struct Attributes {
  bool recursive = false;
  bool isolated = false;  // what the host mounts below it later does not arrive
  bool readonly = false;
  bool all_readonly = false;
  bool mapped = false;
  bool all_mapped = false;
  IdMaps maps;

  std::string Text() const {
    return fmt::format("{}{}{}{}{}{} {}", recursive, isolated, readonly, all_readonly, mapped,
                       all_mapped, maps.Text());
  }
};

Result<Attributes> AttributesOf(const VolumeRequest& request) {
  const oci::Mount& mount = request.mount;
  const oci::MountOptions options = TRY(oci::ParseMountOptions(mount.options));
  const auto& propagation = options.propagation;
  Attributes out;
  out.recursive = (options.flags & MS_REC) != 0;
  out.isolated = !propagation.empty() && (propagation.back() & MS_PRIVATE) != 0;
  out.all_readonly = (options.recursive_set & MOUNT_ATTR_RDONLY) != 0;
  out.readonly = out.all_readonly || (options.flags & MS_RDONLY) != 0;
  const bool own = !mount.uid_mappings.empty();
  out.mapped = own || options.id_map;
  out.all_mapped = options.recursive_id_map;
  if (out.mapped) {
    out.maps = {own ? mount.uid_mappings : request.uid_mappings,
                own ? mount.gid_mappings : request.gid_mappings};
  }
  return out;
}

Status Apply(const Attributes& attributes, const UniqueFd& tree, const std::string& source) {
  if (attributes.isolated) {
    TRY_AS(SetPropagation(tree, attributes.recursive, MS_PRIVATE), "{}", source);
  }
  if (attributes.mapped) {
    TRY(SetIdMaps(tree, attributes.all_mapped, attributes.maps, source));
  }
  // The guest is told the same, but is not believed.
  if (attributes.readonly) {
    TRY_AS(SetReadonly(tree, attributes.all_readonly), "{}", source);
  }
  return {};
}

}  // namespace

Result<std::shared_ptr<SharedVolume>> SharedVolume::Make(const ShareRoot& root, std::string name,
                                                         bool is_folder) {
  TRY(is_folder ? root.MakeFolder(name) : root.MakeFile(name));
  return std::shared_ptr<SharedVolume>(new SharedVolume(root, std::move(name)));
}

SharedVolume::~SharedVolume() { root_.Remove(name_); }

Result<std::unique_ptr<SharedVolumes>> SharedVolumes::Make(const ShareRoot& root, std::string name,
                                                           bool by_root) {
  TRY(root.MakeFolder(name, 0700));
  return std::unique_ptr<SharedVolumes>(new SharedVolumes(root, std::move(name), by_root));
}

SharedVolumes::~SharedVolumes() { root_.Remove(name_); }

Result<std::shared_ptr<SharedVolume>> SharedVolumes::Get(const VolumeRequest& request) {
  const std::string& path = request.mount.source;
  Attributes attributes = TRY(AttributesOf(request));
  if (attributes.mapped && by_root_) {
    attributes.maps.AdmitRoot();
  }
  // Nothing that may take long, or wait for somebody, is done below the lock.
  const VolumeSource source = TRY(OpenVolumeSource(path, attributes.recursive, request.view));
  TRY(Apply(attributes, source.tree, path));
  const std::string key = source.identity.empty() ? "" : attributes.Text() + "\n" + source.identity;
  const std::lock_guard lock(mutex_);
  std::erase_if(volumes_, [](const auto& entry) { return entry.second.expired(); });
  if (const auto found = volumes_.find(key); found != volumes_.end()) {
    if (auto volume = found->second.lock()) {
      return volume;
    }
  }
  auto volume =
      TRY(SharedVolume::Make(root_, fmt::format("{}/{}", name_, ++count_), source.is_folder));
  TRY(AttachTree(source.tree, volume->path()));
  if (!key.empty()) {
    volumes_[key] = volume;
  }
  return volume;
}

}  // namespace bulkhead::shim
