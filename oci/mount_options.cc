#include "oci/mount_options.h"

#include <linux/mount.h>
#include <sys/mount.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace bulkhead::oci {
namespace {

struct FlagRow {
  std::string_view name;
  bool clear;
  unsigned long flag;
};

constexpr std::array kFlags{
    FlagRow{"acl", false, MS_POSIXACL},
    FlagRow{"async", true, MS_SYNCHRONOUS},
    FlagRow{"atime", true, MS_NOATIME},
    FlagRow{"bind", false, MS_BIND},
    FlagRow{"defaults", false, 0},
    FlagRow{"dev", true, MS_NODEV},
    FlagRow{"diratime", true, MS_NODIRATIME},
    FlagRow{"dirsync", false, MS_DIRSYNC},
    FlagRow{"exec", true, MS_NOEXEC},
    FlagRow{"iversion", false, MS_I_VERSION},
    FlagRow{"lazytime", false, MS_LAZYTIME},
    FlagRow{"loud", true, MS_SILENT},
    FlagRow{"mand", false, MS_MANDLOCK},
    FlagRow{"noacl", true, MS_POSIXACL},
    FlagRow{"noatime", false, MS_NOATIME},
    FlagRow{"nodev", false, MS_NODEV},
    FlagRow{"nodiratime", false, MS_NODIRATIME},
    FlagRow{"noexec", false, MS_NOEXEC},
    FlagRow{"noiversion", true, MS_I_VERSION},
    FlagRow{"nolazytime", true, MS_LAZYTIME},
    FlagRow{"nomand", true, MS_MANDLOCK},
    FlagRow{"norelatime", true, MS_RELATIME},
    FlagRow{"nostrictatime", true, MS_STRICTATIME},
    FlagRow{"nosuid", false, MS_NOSUID},
    FlagRow{"nosymfollow", false, MS_NOSYMFOLLOW},
    FlagRow{"rbind", false, MS_BIND | MS_REC},
    FlagRow{"relatime", false, MS_RELATIME},
    FlagRow{"remount", false, MS_REMOUNT},
    FlagRow{"ro", false, MS_RDONLY},
    FlagRow{"rw", true, MS_RDONLY},
    FlagRow{"silent", false, MS_SILENT},
    FlagRow{"strictatime", false, MS_STRICTATIME},
    FlagRow{"suid", true, MS_NOSUID},
    FlagRow{"symfollow", true, MS_NOSYMFOLLOW},
    FlagRow{"sync", false, MS_SYNCHRONOUS},
};

struct PropagationRow {
  std::string_view name;
  unsigned long flags;
};

constexpr std::array kPropagation{
    PropagationRow{"private", MS_PRIVATE},
    PropagationRow{"rprivate", MS_PRIVATE | MS_REC},
    PropagationRow{"shared", MS_SHARED},
    PropagationRow{"rshared", MS_SHARED | MS_REC},
    PropagationRow{"slave", MS_SLAVE},
    PropagationRow{"rslave", MS_SLAVE | MS_REC},
    PropagationRow{"unbindable", MS_UNBINDABLE},
    PropagationRow{"runbindable", MS_UNBINDABLE | MS_REC},
};

struct RecursiveRow {
  std::string_view name;
  uint64_t set;
  uint64_t clear;
};

constexpr std::array kRecursive{
    RecursiveRow{"rro", MOUNT_ATTR_RDONLY, 0},
    RecursiveRow{"rrw", 0, MOUNT_ATTR_RDONLY},
    RecursiveRow{"rnosuid", MOUNT_ATTR_NOSUID, 0},
    RecursiveRow{"rsuid", 0, MOUNT_ATTR_NOSUID},
    RecursiveRow{"rnodev", MOUNT_ATTR_NODEV, 0},
    RecursiveRow{"rdev", 0, MOUNT_ATTR_NODEV},
    RecursiveRow{"rnoexec", MOUNT_ATTR_NOEXEC, 0},
    RecursiveRow{"rexec", 0, MOUNT_ATTR_NOEXEC},
    RecursiveRow{"rnodiratime", MOUNT_ATTR_NODIRATIME, 0},
    RecursiveRow{"rdiratime", 0, MOUNT_ATTR_NODIRATIME},
    RecursiveRow{"rrelatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
    RecursiveRow{"rnoatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME},
    RecursiveRow{"rstrictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME},
    RecursiveRow{"rnosymfollow", MOUNT_ATTR_NOSYMFOLLOW, 0},
    RecursiveRow{"rsymfollow", 0, MOUNT_ATTR_NOSYMFOLLOW},
};

template <typename Table>
auto* FindRow(const Table& table, std::string_view name) {
  const auto* row = std::find_if(table.begin(), table.end(),
                                 [&](const auto& entry) { return entry.name == name; });
  return row == table.end() ? nullptr : row;
}

void ApplyFlag(const FlagRow& row, MountOptions& out) {
  out.flags = row.clear ? out.flags & ~row.flag : out.flags | row.flag;
  out.cleared = row.clear ? out.cleared | row.flag : out.cleared & ~row.flag;
  if ((row.flag & ~static_cast<unsigned long>(MS_BIND | MS_REC)) != 0) {
    out.explicit_flags = true;
  }
}

}  // namespace

Result<unsigned long> ParsePropagation(const std::string& name) {
  if (const auto* row = FindRow(kPropagation, name)) {
    return row->flags;
  }
  return MakeError(ErrorCode::kInvalidArgument, "unknown mount propagation \"{}\"", name);
}

std::vector<std::string> MountOptionNames() {
  std::vector<std::string> names{"tmpcopyup", "idmap", "ridmap"};
  const auto add = [&](const auto& table) {
    for (const auto& row : table) {
      names.emplace_back(row.name);
    }
  };
  add(kFlags);
  add(kPropagation);
  add(kRecursive);
  return names;
}

bool HasOption(const Mount& mount, std::string_view name) {
  return std::find(mount.options.begin(), mount.options.end(), name) != mount.options.end();
}

bool IsBind(const Mount& mount) {
  return mount.type == "bind" || HasOption(mount, "bind") || HasOption(mount, "rbind");
}

Result<MountOptions> ParseMountOptions(const std::vector<std::string>& options) {
  MountOptions out;
  for (const std::string& option : options) {
    if (const auto* flag = FindRow(kFlags, option)) {
      ApplyFlag(*flag, out);
    } else if (const auto* propagation = FindRow(kPropagation, option)) {
      out.propagation.push_back(propagation->flags);
    } else if (const auto* recursive = FindRow(kRecursive, option)) {
      out.recursive_set = (out.recursive_set & ~recursive->clear) | recursive->set;
      out.recursive_clear = (out.recursive_clear & ~recursive->set) | recursive->clear;
    } else if (option == "tmpcopyup") {
      out.copy_up = true;
    } else if (option == "idmap" || option == "ridmap") {
      out.id_map = true;
      out.recursive_id_map = out.recursive_id_map || option == "ridmap";
    } else if (!option.empty()) {
      out.data += (out.data.empty() ? "" : ",") + option;
    }
  }
  return out;
}

}  // namespace bulkhead::oci
