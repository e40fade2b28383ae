#include "shim/guest_spec.h"

#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <tuple>

#include "base/sys.h"
#include "oci/mount_options.h"
#include "oci/words.h"
#include "shim/mount_tree.h"
#include "shim/storage.h"

namespace bulkhead::shim {
namespace {

constexpr char kCri[] = "io.kubernetes.cri.";
constexpr char kCrio[] = "io.kubernetes.cri-o.";
constexpr uint64_t kDefaultPeriod = 100'000;
constexpr uint64_t kMaxVcpus = 64;
constexpr uint64_t kMaxHugePageBytes = 1ULL << 50U;  // more than any host has: refused as such

std::string Annotation(const Annotations& annotations, const std::string& name) {
  const auto found = annotations.find(name);
  return found == annotations.end() ? "" : found->second;
}

template <typename T>
Result<std::optional<T>> NumberAnnotation(const oci::Spec& spec, const std::string& name) {
  const std::string text = Annotation(spec.annotations, name);
  if (text.empty()) {
    return std::nullopt;
  }
  T value{};
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc() || result.ptr != text.data() + text.size()) {
    return MakeError(ErrorCode::kInvalidArgument, "annotation {}: \"{}\" is not a number", name,
                     text);
  }
  return value;
}

// The pid of "/proc/PID/ns/TYPE".
std::optional<int> PidOfPath(std::string_view path) {
  constexpr std::string_view kProc = "/proc/";
  if (!path.starts_with(kProc)) {
    return std::nullopt;
  }
  path.remove_prefix(kProc.size());
  int pid = 0;
  const auto result = std::from_chars(path.data(), path.data() + path.size(), pid);
  const std::string_view rest(result.ptr, path.data() + path.size() - result.ptr);
  if (result.ec != std::errc() || !rest.starts_with("/ns/")) {
    return std::nullopt;
  }
  return pid;
}

Status TranslatePid(oci::Namespace& entry, const StandInOwner& owner) {
  const auto pid = PidOfPath(entry.path);
  const auto container = pid ? owner(*pid) : std::nullopt;
  if (!container) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "linux.namespaces: pid: {} belongs to no container of this pod, and a virtual "
                     "machine can join no other",
                     entry.path);
  }
  entry.path = container->empty() ? "pod" : "container:" + *container;
  return {};
}

// A container's own knows its mappings; an engine's file of one, which is the host's, stands for
// the one that the pod has in the guest.
Status TranslateUser(oci::Linux& section, oci::Namespace& entry, const StandInOwner& owner,
                     const NamespaceOf& namespace_of) {
  const auto pid = PidOfPath(entry.path);
  const auto container = pid ? owner(*pid) : std::nullopt;
  if (container && !container->empty()) {
    entry.path = "container:" + *container;
    section.uid_mappings.clear();  // Podman writes some that mean nothing
    section.gid_mappings.clear();
  } else if (!section.uid_mappings.empty()) {
    entry.path = "pod";
  } else if (container || namespace_of(entry.path) == namespace_of("/proc/self/ns/user")) {
    entry.type.clear();  // the host's, to which the guest's corresponds
  } else {
    return MakeError(ErrorCode::kInvalidArgument,
                     "linux.namespaces: user: {} belongs to no container of this pod, and there "
                     "are no mappings (linux.uidMappings) to make another like it",
                     entry.path);
  }
  return {};
}

std::optional<uint32_t> Vcpus(std::optional<int64_t> quota, std::optional<uint64_t> period) {
  const uint64_t length = period.value_or(0) == 0 ? kDefaultPeriod : *period;
  if (quota.value_or(0) <= 0) {
    return std::nullopt;
  }
  const uint64_t count = (static_cast<uint64_t>(*quota) + length - 1) / length;
  return static_cast<uint32_t>(std::clamp<uint64_t>(count, 1, kMaxVcpus));
}

// What the source of a bind is on the host.
struct BindSource {
  struct statfs filesystem {};
  struct stat root {};
};
using BindSources = std::map<const oci::Mount*, BindSource>;

BindSources LookAtBinds(const oci::Spec& spec) {
  BindSources found;
  for (const oci::Mount& mount : spec.mounts) {
    BindSource source;
    if (oci::IsBind(mount) && ::statfs(mount.source.c_str(), &source.filesystem) == 0 &&
        ::stat(mount.source.c_str(), &source.root) == 0) {
      found.emplace(&mount, source);
    }
  }
  return found;
}

Result<MemoryVolume> HugePageVolume(const oci::Mount& mount, const BindSource& source,
                                    uint64_t size, const oci::Resources& resources) {
  if (!S_ISDIR(source.root.st_mode)) {
    return MakeError(ErrorCode::kUnimplemented,
                     "mounts: {}: huge pages of the host are not the virtual machine's: of a "
                     "hugetlbfs a folder can be given, which is empty there, and no file",
                     mount.source);
  }
  const auto page_bytes = static_cast<uint64_t>(source.filesystem.f_bsize);
  bool limited = false;
  for (const oci::HugepageLimit& limit : resources.hugepage_limits) {
    limited |= TRY(oci::PageSizeBytes(limit.page_size)) == page_bytes && !limit.unlimited();
  }
  return MemoryVolume{size,
                      page_bytes,
                      limited ? 0 : size,
                      source.root.st_mode & 07777U,
                      source.root.st_uid,
                      source.root.st_gid};
}

}  // namespace

Result<PodRole> RoleOf(const Annotations& annotations, const std::string& id) {
  for (const auto& [type_name, id_name, needs_sandbox] :
       {std::tuple(std::string(kCri) + "container-type", std::string(kCri) + "sandbox-id", true),
        std::tuple(std::string(kCrio) + "ContainerType", std::string(kCrio) + "SandboxID",
                   false)}) {
    const std::string type = Annotation(annotations, type_name);
    if (type.empty()) {
      continue;
    }
    if (type == "sandbox") {
      return PodRole{PodRole::Kind::kSandbox, id};
    }
    const std::string sandbox = Annotation(annotations, id_name);
    if (type != "container" || sandbox.empty()) {
      return MakeError(ErrorCode::kInvalidArgument,
                       "annotation {}: \"{}\": expected \"sandbox\", or \"container\" with {}",
                       type_name, type, id_name);
    }
    return PodRole{PodRole::Kind::kMember, sandbox, needs_sandbox};
  }
  return PodRole{};
}

NetworkNamespace HostNetworkOf(const oci::Spec& spec) {
  for (const oci::Namespace& entry : spec.linux_.namespaces) {
    if (entry.type == "network") {
      return {entry.path.empty() ? NetworkNamespace::Kind::kNew : NetworkNamespace::Kind::kJoin,
              entry.path};
    }
  }
  return {};
}

std::vector<JoinedProcess> JoinedProcesses(const oci::Spec& spec) {
  std::vector<JoinedProcess> found;
  for (const oci::Namespace& entry : spec.linux_.namespaces) {
    if (const auto pid = PidOfPath(entry.path)) {
      found.push_back({entry.type, entry.path, *pid});
    }
  }
  return found;
}

Status TranslateNamespaces(oci::Spec& spec, const StandInOwner& owner,
                           const NamespaceOf& namespace_of) {
  std::erase_if(spec.linux_.namespaces, [](const oci::Namespace& entry) {
    return entry.type == "network" ||
           (!entry.path.empty() && (entry.type == "ipc" || entry.type == "uts"));
  });
  const auto is_cgroup = [](const oci::Namespace& entry) { return entry.type == "cgroup"; };
  if (std::none_of(spec.linux_.namespaces.begin(), spec.linux_.namespaces.end(), is_cgroup)) {
    spec.linux_.namespaces.push_back({"cgroup", ""});
  }
  for (oci::Namespace& entry : spec.linux_.namespaces) {
    if (entry.path.empty()) {
      continue;
    }
    if (entry.type == "user") {
      TRY(TranslateUser(spec.linux_, entry, owner, namespace_of));
      continue;
    }
    if (entry.type != "pid") {
      return MakeError(ErrorCode::kUnimplemented,
                       "linux.namespaces: {}: {}: a virtual machine cannot join a namespace of the "
                       "host",
                       entry.type, entry.path);
    }
    TRY(TranslatePid(entry, owner));
  }
  std::erase_if(spec.linux_.namespaces,
                [](const oci::Namespace& entry) { return entry.type.empty(); });
  return {};
}

void UsePodIpc(oci::Spec& spec) {
  std::erase_if(spec.linux_.namespaces,
                [](const oci::Namespace& entry) { return entry.type == "ipc"; });
}

Status TranslateSharedMemory(oci::Spec& spec, const SharedMemory& share, int view) {
  const BindSources sources =
      TRY(InView(view, [&]() -> Result<BindSources> { return LookAtBinds(spec); }));
  for (oci::Mount& mount : spec.mounts) {
    const auto source = sources.find(&mount);
    if (source == sources.end()) {
      continue;
    }
    const struct statfs& info = source->second.filesystem;
    const auto size = static_cast<uint64_t>(info.f_blocks) * static_cast<uint64_t>(info.f_bsize);
    MemoryVolume volume{.size_bytes = size};
    if (info.f_type == HUGETLBFS_MAGIC) {
      volume = TRY(HugePageVolume(mount, source->second, size, spec.linux_.resources));
    } else if (info.f_type != TMPFS_MAGIC || mount.destination != "/dev/shm") {
      continue;  // files that somebody wants there
    }
    const struct stat& root = source->second.root;
    volume.identity = fmt::format("{}:{}", root.st_dev, root.st_ino);
    mount.source = std::string(kGuestPrefix) + TRY(share(mount.source, volume));
  }
  return {};
}

void ForgetHostCpus(oci::Resources& resources) {
  resources.cpu.cpus.clear();
  resources.cpu.mems.clear();
}

Result<PodSize> SizeOf(const oci::Spec& spec) {
  const std::string sandbox = std::string(kCri) + "sandbox-";
  PodSize size;
  const auto memory = TRY(NumberAnnotation<int64_t>(spec, sandbox + "memory"));
  const auto quota = TRY(NumberAnnotation<int64_t>(spec, sandbox + "cpu-quota"));
  const auto period = TRY(NumberAnnotation<uint64_t>(spec, sandbox + "cpu-period"));
  const int64_t limit =
      memory.value_or(0) > 0 ? *memory : spec.linux_.resources.memory.limit.value_or(0);
  if (limit > 0) {
    size.memory_bytes = static_cast<uint64_t>(limit);
  }
  for (const oci::HugepageLimit& pages : spec.linux_.resources.hugepage_limits) {
    const uint64_t bytes = pages.unlimited() ? 0 : std::min(pages.limit, kMaxHugePageBytes);
    size.huge_page_bytes = std::min(size.huge_page_bytes + bytes, kMaxHugePageBytes);
  }
  size.vcpus = quota.value_or(0) > 0
                   ? Vcpus(quota, period)
                   : Vcpus(spec.linux_.resources.cpu.quota, spec.linux_.resources.cpu.period);
  return size;
}

}  // namespace bulkhead::shim
