#include "agent/user_stage.h"

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "agent/devices.h"
#include "agent/limits.h"
#include "agent/sysctls.h"
#include "base/sys.h"
#include "oci/id_mapping.h"
#include "oci/mount_options.h"
#include "oci/spec_check.h"
#include "oci/words.h"

namespace bulkhead::agent {
namespace {

constexpr char kStage[] = "/run/bulkhead/stage";

Result<uint32_t> Outside(const std::vector<oci::IdMapping>& mappings, uint32_t id,
                         const char* field) {
  const auto outside = oci::OutsideId(mappings, id);
  if (!outside) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: {} is not mapped in the user namespace",
                     field, id);
  }
  return *outside;
}

// A folder of places where mounts wait for the container.
class Stage {
 public:
  Stage(const oci::Linux& section, bool owns_ipc) : section_(section), owns_ipc_(owns_ipc) {}

  Status Open() {
    TRY(sys::Unshare(CLONE_NEWNS));
    TRY(sys::Mount("", "/", "", MS_SLAVE | MS_REC));
    TRY(sys::MkdirAll(kStage));
    return sys::Mount("tmpfs", kStage, "tmpfs", 0, "mode=0755");
  }

  Status BindRoot(oci::Root& root) {
    root.path = TRY_AS(Bind(root.path, MS_REC), "root.path");
    return {};
  }

  Status Prepare(oci::Mount& mount) {
    const oci::MountOptions options = TRY(oci::ParseMountOptions(mount.options));
    if ((options.flags & MS_REMOUNT) != 0) {
      return {};
    }
    if (oci::IsBind(mount)) {
      mount.source = TRY(Bind(mount.source, options.flags & MS_REC));
    } else if (mount.type == "sysfs" || (mount.type == "mqueue" && !owns_ipc_)) {
      mount.source = TRY(MountOfGuest(mount.type));
    } else {
      return {};
    }
    mount.type = "bind";
    mount.options.emplace_back("rbind");  // of what is staged, all
    return {};
  }

  // A bind of a node that is made here.
  Result<oci::Mount> Node(oci::Device device) {
    const std::string path = NextPlace();
    const std::string place = std::exchange(device.path, path.substr(sizeof(kStage) - 1));
    device.uid = TRY(Outside(section_.uid_mappings, device.uid.value_or(0), "uid"));
    device.gid = TRY(Outside(section_.gid_mappings, device.gid.value_or(0), "gid"));
    const UniqueFd stage = TRY(sys::Open(kStage, O_PATH | O_DIRECTORY));
    TRY(MakeDevices(stage.get(), {device}));
    return oci::Mount{place, "bind", path, {"bind"}};
  }

 private:
  std::string NextPlace() { return fmt::format("{}/{}", kStage, count_++); }

  Result<std::string> Bind(const std::string& source, unsigned long recursive) {
    std::string place = NextPlace();
    if (S_ISDIR(TRY_AS(sys::Stat(source), "bind source").st_mode)) {
      TRY(sys::Mkdir(place));
    } else {
      TRY(sys::WriteFile(place, ""));
    }
    TRY(sys::Mount(source, place, "", MS_BIND | recursive));
    return place;
  }

  Result<std::string> MountOfGuest(const std::string& type) {
    std::string place = NextPlace();
    TRY(sys::Mkdir(place));
    TRY(sys::Mount(type, place, type, 0));
    return place;
  }

  const oci::Linux& section_;
  const bool owns_ipc_;
  size_t count_ = 0;
};

Status StageDevices(Stage& stage, oci::Spec& spec) {
  std::vector<oci::Device> devices = StandardDevices();
  std::vector<oci::Device> fifos;
  for (oci::Device& device : spec.linux_.devices) {
    (device.type == "p" ? fifos : devices).push_back(std::move(device));
  }
  for (oci::Device& device : devices) {
    const std::string path = device.path;
    spec.mounts.push_back(TRY_AS(stage.Node(std::move(device)), "device {}", path));
  }
  spec.linux_.devices = std::move(fifos);
  return {};
}

Status StageFiles(LaunchRequest& request) {
  oci::Spec& spec = request.spec;
  Stage stage(spec.linux_, (request.clone_flags & CLONE_NEWIPC) != 0);
  TRY(stage.Open());
  TRY(stage.BindRoot(spec.root));
  for (oci::Mount& mount : spec.mounts) {
    TRY_AS(stage.Prepare(mount), "mount {} ({})", mount.destination, mount.type);
  }
  return StageDevices(stage, spec);
}

// Those of namespaces that will be the container's own are left to it.
Status SetSysctlsOfGuest(LaunchRequest& request) {
  std::map<std::string, std::string> own;
  auto& sysctls = request.spec.linux_.sysctl;
  for (const auto& [name, value] : sysctls) {
    const std::string type(oci::NamespaceOfSysctl(TRY_AS(oci::SysctlPath(name), "linux.sysctl")));
    if (type == "ipc" && (request.clone_flags & CLONE_NEWIPC) != 0) {
      own.emplace(name, value);
    } else if (type == "uts" && request.owns_uts) {
      request.spec.domainname = value;  // its file is the guest's root's, the call is not
    } else {
      TRY(SetSysctls({{name, value}}));
    }
  }
  sysctls = std::move(own);
  return {};
}

// So that /dev/stdout can be opened again by who is not root.
Status GivePipes(const LaunchRequest& request) {
  const oci::Linux& section = request.spec.linux_;
  const oci::User& user = request.spec.process->user;
  const uid_t uid = TRY(Outside(section.uid_mappings, user.uid, "process.user.uid"));
  const gid_t gid = TRY(Outside(section.gid_mappings, user.gid, "process.user.gid"));
  for (const UniqueFd* fd : {&request.stdin_fd, &request.stdout_fd, &request.stderr_fd}) {
    if (fd->valid() && S_ISFIFO(TRY(sys::FStat(fd->get())).st_mode)) {
      TRY(sys::CheckCall(::fchown(fd->get(), uid, gid), "fchown"));
    }
  }
  return {};
}

}  // namespace

Status PrepareForUserNamespace(LaunchRequest& request) {
  if (request.kind == LaunchKind::kPodInit) {
    return SetOomScore(kPodInitOomScore);
  }
  TRY(GivePipes(request));
  if (request.kind == LaunchKind::kInit) {
    TRY(SetSysctlsOfGuest(request));
    TRY(StageFiles(request));
  }
  return SetLimits(*request.spec.process);
}

Status BecomeRootOfUserNamespace() {
  TRY(sys::CheckCall(::setgroups(0, nullptr), "setgroups"));
  TRY(sys::CheckCall(::setresgid(0, 0, 0), "setgid 0 (is it mapped?)"));
  return sys::CheckCall(::setresuid(0, 0, 0), "setuid 0 (is it mapped?)");
}

}  // namespace bulkhead::agent
