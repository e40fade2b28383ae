#include "cli/run_spec.h"

#include <algorithm>
#include <cmath>

#include "cli/default_seccomp.h"

namespace bulkhead::cli {
namespace {

constexpr char kDefaultPath[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
constexpr char kInitPath[] = "/sbin/bulkhead-init";

const std::vector<std::string>& DefaultCapabilities() {
  static const std::vector<std::string> defaults{
      "CAP_CHOWN",   "CAP_DAC_OVERRIDE", "CAP_FSETID",           "CAP_FOWNER",
      "CAP_MKNOD",   "CAP_NET_RAW",      "CAP_SETGID",           "CAP_SETUID",
      "CAP_SETFCAP", "CAP_SETPCAP",      "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT",
      "CAP_KILL",    "CAP_AUDIT_WRITE"};
  return defaults;
}

bool Contains(const std::vector<std::string>& list, const std::string& value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

std::vector<oci::Mount> DefaultMounts(uint64_t shm_size) {
  return {
      {"/proc", "proc", "proc", {"nosuid", "noexec", "nodev"}},
      {"/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}},
      {"/dev/pts",
       "devpts",
       "devpts",
       {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
      {"/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", "ro"}},
      {"/sys/fs/cgroup", "cgroup", "cgroup", {"ro", "nosuid", "noexec", "nodev"}},
      {"/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}},
      {"/dev/shm",
       "tmpfs",
       "shm",
       {"nosuid", "noexec", "nodev", "mode=1777", fmt::format("size={}", shm_size)}},
  };
}

// A mount of the user's takes the place of a default one at the same destination.
void AddMount(std::vector<oci::Mount>& mounts, oci::Mount mount) {
  std::erase_if(mounts,
                [&](const oci::Mount& other) { return other.destination == mount.destination; });
  mounts.push_back(std::move(mount));
}

std::vector<oci::Mount> Mounts(const SpecInput& input) {
  const RunOptions& options = input.options;
  std::vector<oci::Mount> mounts = DefaultMounts(options.shm_size);
  if (!input.etc_folder.empty()) {
    for (const char* name : {"resolv.conf", "hostname", "hosts"}) {
      mounts.push_back({fmt::format("/etc/{}", name),
                        "bind",
                        fmt::format("{}/{}", input.etc_folder, name),
                        {"rbind", "rprivate"}});
    }
  }
  for (const Volume& volume : options.volumes) {
    AddMount(mounts, {volume.destination,
                      "bind",
                      volume.source,
                      {"rbind", "rprivate", volume.read_only ? "ro" : "rw"}});
  }
  for (const Tmpfs& tmpfs : options.tmpfs) {
    std::vector<std::string> flags{"nosuid", "nodev", "noexec"};
    for (const std::string& option : tmpfs.options) {
      // "exec" and the like undo a default.
      std::erase(flags, "no" + option);
      flags.push_back(option);
    }
    AddMount(mounts, {tmpfs.destination, "tmpfs", "tmpfs", std::move(flags)});
  }
  // A mount above another would hide it.
  std::stable_sort(mounts.begin(), mounts.end(), [](const oci::Mount& a, const oci::Mount& b) {
    return std::count(a.destination.begin(), a.destination.end(), '/') <
           std::count(b.destination.begin(), b.destination.end(), '/');
  });
  if (options.init) {
    mounts.push_back({kInitPath, "bind", "guest:/init", {"bind", "ro"}});
  }
  return mounts;
}

std::vector<std::string> Environment(const SpecInput& input) {
  // Docker's order: its own, the image's, the user's.
  std::vector<std::string> env{kDefaultPath, "HOSTNAME=" + input.hostname};
  if (input.options.terminal) {
    env.emplace_back("TERM=xterm");
  }
  for (const std::string& assignment : input.image.env) {
    SetEnv(env, assignment);
  }
  for (const std::string& assignment : input.options.env) {
    SetEnv(env, assignment);
  }
  if (!HasEnv(env, "HOME")) {
    env.push_back("HOME=" + input.user.home);
  }
  return env;
}

oci::Capabilities ProcessCapabilities(const SpecInput& input) {
  oci::Capabilities capabilities;
  capabilities.bounding = BoundingCapabilities(input.options.cap_add, input.options.cap_drop);
  if (input.user.user.uid == 0) {  // others gain them by a set-user-id program only
    capabilities.effective = capabilities.bounding;
    capabilities.permitted = capabilities.bounding;
  }
  return capabilities;
}

oci::Resources Limits(const RunOptions& options) {
  oci::Resources resources;
  resources.devices.push_back({});  // deny all; the agent allows the usual ones
  if (options.cpus) {
    resources.cpu.period = 100000;
    resources.cpu.quota = static_cast<int64_t>(std::llround(*options.cpus * 100000));
  }
  if (options.memory) {
    resources.memory.limit = static_cast<int64_t>(*options.memory);
    resources.memory.swap = resources.memory.limit;
  }
  resources.pids_limit = options.pids_limit;
  return resources;
}

oci::Linux LinuxPart(const SpecInput& input, const oci::Capabilities& capabilities) {
  const RunOptions& options = input.options;
  oci::Linux linux_part;
  for (const char* type : {"pid", "ipc", "uts", "mount", "cgroup", "network"}) {
    linux_part.namespaces.push_back({type, ""});
  }
  linux_part.resources = Limits(options);
  linux_part.sysctl = options.sysctls;
  linux_part.masked_paths = {
      "/proc/asound",     "/proc/acpi",        "/proc/interrupts",
      "/proc/kcore",      "/proc/keys",        "/proc/latency_stats",
      "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
      "/proc/scsi",       "/sys/firmware",     "/sys/devices/virtual/powercap"};
  linux_part.readonly_paths = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                               "/proc/sysrq-trigger"};
  if (input.seccomp_profile) {
    linux_part.seccomp = input.seccomp_profile;
  } else if (!options.seccomp_unconfined) {
    linux_part.seccomp = DefaultSeccomp(capabilities.bounding);
  }
  return linux_part;
}

void Annotate(const RunOptions& options, std::map<std::string, std::string>& annotations) {
  annotations = options.annotations;
}

}  // namespace

std::vector<std::string> BoundingCapabilities(const std::vector<std::string>& add,
                                              const std::vector<std::string>& drop) {
  const bool add_all = Contains(add, "ALL");
  const bool drop_all = Contains(drop, "ALL");
  std::vector<std::string> result;
  for (const std::string& name : AllCapabilities()) {
    const bool by_default = Contains(DefaultCapabilities(), name) && !drop_all;
    const bool named = Contains(add, name);
    // ALL on one side leaves out what the other side names, as docker has it.
    const bool keep =
        add_all ? !Contains(drop, name) || named : named || (by_default && !Contains(drop, name));
    if (keep) {
      result.push_back(name);
    }
  }
  return result;
}

std::vector<std::string> CommandLine(const RunOptions& options, const oci::ImageConfig& image) {
  std::vector<std::string> args;
  if (options.entrypoint) {
    if (!options.entrypoint->empty()) {
      args.push_back(*options.entrypoint);
    }
  } else {
    args = image.entrypoint;
  }
  // An entrypoint of the user's own drops the image's command, as docker does.
  const std::vector<std::string> none;
  const std::vector<std::string>& rest =
      !options.command.empty() ? options.command : (options.entrypoint ? none : image.cmd);
  args.insert(args.end(), rest.begin(), rest.end());
  return args;
}

Result<oci::Spec> BuildSpec(const SpecInput& input) {
  const RunOptions& options = input.options;
  oci::Spec spec;
  spec.root.path = "rootfs";
  spec.root.readonly = options.read_only;
  spec.hostname = input.hostname;
  spec.domainname = options.domainname;
  spec.mounts = Mounts(input);
  Annotate(options, spec.annotations);

  oci::Process process;
  process.terminal = options.terminal;
  process.console_size = input.console_size;
  process.user = input.user.user;
  process.args = CommandLine(options, input.image);
  if (process.args.empty()) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "no command: the image names none, so give one after it");
  }
  if (process.args[0].empty()) {
    return MakeError(ErrorCode::kCommandNotFound, "the command is an empty string");
  }
  if (options.init) {
    const std::vector<std::string> prefix{kInitPath, "container-init", "--"};
    process.args.insert(process.args.begin(), prefix.begin(), prefix.end());
  }
  process.env = Environment(input);
  if (!options.workdir.empty()) {
    process.cwd = options.workdir;
  } else if (!input.image.working_dir.empty()) {
    process.cwd = input.image.working_dir;
  }
  if (!process.cwd.starts_with('/')) {
    process.cwd.insert(0, "/");
  }
  process.capabilities = ProcessCapabilities(input);
  process.rlimits = options.rlimits;
  process.no_new_privileges = options.no_new_privileges;
  spec.linux_ = LinuxPart(input, *process.capabilities);
  spec.process = std::move(process);
  return spec;
}

}  // namespace bulkhead::cli
