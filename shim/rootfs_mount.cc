#include "shim/rootfs_mount.h"

#include <sys/mount.h>

#include <charconv>
#include <cstdint>
#include <string_view>

#include "base/sys.h"
#include "base/text.h"
#include "oci/mount_options.h"

namespace bulkhead::shim {
namespace {

// mount(2) copies one page of options.
constexpr size_t kMaxMountData = 4095;
constexpr std::string_view kLower = "lowerdir=";
constexpr std::string_view kUids = "uidmap=";
constexpr std::string_view kGids = "gidmap=";

bool ReadNumber(const std::string& text, uint32_t& value) {
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  return result.ec == std::errc() && result.ptr == end;
}

// "0:1000:10,10:5000:1"
Result<std::vector<oci::IdMapping>> ReadMappings(const std::string& option, std::string_view list) {
  std::vector<oci::IdMapping> mappings;
  for (const std::string& entry : SplitText(list, ',')) {
    const auto numbers = SplitText(entry, ':');
    oci::IdMapping mapping;
    if (numbers.size() != 3 || !ReadNumber(numbers[0], mapping.container_id) ||
        !ReadNumber(numbers[1], mapping.host_id) || !ReadNumber(numbers[2], mapping.size)) {
      return MakeError(ErrorCode::kInvalidArgument,
                       "option \"{}\": \"{}\" is not INSIDE:OUTSIDE:COUNT", option, entry);
    }
    mappings.push_back(mapping);
  }
  return mappings;
}

Status MountPlain(const RootfsMount& mount, const std::string& target) {
  const oci::MountOptions options = TRY(oci::ParseMountOptions(mount.options));
  if (options.data.size() > kMaxMountData) {
    return MakeError(ErrorCode::kResourceExhausted,
                     "mount {}: {} bytes of options are more than the kernel takes ({}): the image "
                     "has too many layers",
                     mount.type, options.data.size(), kMaxMountData);
  }
  const bool bind = mount.type == "bind" || (options.flags & MS_BIND) != 0;
  if (!bind) {
    return sys::Mount(mount.source, target, mount.type, options.flags, options.data);
  }
  const UniqueFd tree = TRY(CopyTree(mount.source, (options.flags & MS_REC) != 0));
  if ((options.flags & MS_RDONLY) != 0) {
    TRY(SetReadonly(tree, false));
  }
  return AttachTree(tree, target);
}

// The overlay has copies of its own of the mounts of its lower folders.
Status MountMappedOverlay(RootfsMount mount, const IdMaps& maps, const std::string& target,
                          const std::string& workbench) {
  std::vector<Workbench> lower;
  for (std::string& option : mount.options) {
    if (!option.starts_with(kLower)) {
      continue;
    }
    std::string mapped;
    for (const std::string& folder :
         SplitText(std::string_view(option).substr(kLower.size()), ':')) {
      const UniqueFd tree = TRY(CopyTree(folder, false));
      TRY(SetIdMaps(tree, false, maps, folder));
      lower.push_back(TRY(Workbench::Make(fmt::format("{}.{}", workbench, lower.size()))));
      TRY(AttachTree(tree, lower.back().path()));
      mapped += (mapped.empty() ? "" : ":") + lower.back().path();
    }
    option = std::string(kLower) + mapped;
  }
  return MountPlain(mount, target);
}

}  // namespace

Result<Workbench> Workbench::Make(std::string path) {
  TRY(sys::Mkdir(path, 0700));
  return Workbench(std::move(path));
}

Workbench::~Workbench() {
  if (!path_.empty()) {
    while (sys::Unmount(path_, MNT_DETACH)) {
    }
    (void)sys::Rmdir(path_);
  }
}

Result<std::optional<IdMaps>> TakeIdMaps(std::vector<std::string>& options) {
  IdMaps maps;
  for (const std::string& option : options) {
    for (const auto& [key, mappings] :
         {std::pair(kUids, &maps.uids), std::pair(kGids, &maps.gids)}) {
      if (option.starts_with(key)) {
        *mappings = TRY(ReadMappings(option, std::string_view(option).substr(key.size())));
      }
    }
  }
  std::erase_if(options, [](const std::string& option) {
    return option.starts_with(kUids) || option.starts_with(kGids);
  });
  if (maps.uids.empty() != maps.gids.empty()) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "options \"uidmap=\" and \"gidmap=\": one without the other");
  }
  return maps.uids.empty() ? std::nullopt : std::optional(std::move(maps));
}

Status MountRootfs(const RootfsMount& mount, const std::string& target,
                   const std::string& workbench) {
  RootfsMount plain = mount;
  auto maps = TRY(TakeIdMaps(plain.options));
  if (maps && plain.type == "overlay") {
    return MountMappedOverlay(std::move(plain), *maps, target, workbench);
  }
  if (!maps) {
    return MountPlain(plain, target);
  }
  // Elsewhere first: unmapped, the guest never sees it.
  const Workbench bench = TRY(Workbench::Make(workbench + ".ids"));
  TRY(MountPlain(plain, bench.path()));
  const UniqueFd tree = TRY(CopyTree(bench.path(), true));
  maps->AdmitRoot();
  TRY(SetIdMaps(tree, true, *maps, mount.source));
  return AttachTree(tree, target);
}

}  // namespace bulkhead::shim
