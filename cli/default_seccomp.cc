#include "cli/default_seccomp.h"

#include <sched.h>

#include <algorithm>
#include <cerrno>

namespace bulkhead::cli {
namespace {

struct Denied {
  const char* capability;  // that allows the calls; empty: nothing does
  std::vector<std::string> names;
};

const std::vector<Denied>& DeniedCalls() {
  static const std::vector<Denied> denied{
      // Mounts and namespaces: the way to a container's own root and out of masked paths.
      {"CAP_SYS_ADMIN",
       {"mount",   "umount",   "umount2",      "mount_setattr",  "move_mount",  "open_tree",
        "fsopen",  "fsconfig", "fsmount",      "fspick",         "pivot_root",  "setns",
        "unshare", "quotactl", "quotactl_fd",  "lookup_dcookie", "sethostname", "setdomainname",
        "swapon",  "swapoff",  "fanotify_init"}},
      // Whole-kernel views and programs.
      {"CAP_BPF", {"bpf"}},
      {"CAP_PERFMON", {"perf_event_open"}},
      {"CAP_SYSLOG", {"syslog"}},
      {"CAP_SYS_MODULE", {"init_module", "finit_module", "delete_module"}},
      {"CAP_SYS_BOOT", {"reboot", "kexec_load", "kexec_file_load"}},
      {"CAP_SYS_TIME", {"settimeofday", "stime", "clock_settime", "clock_settime64"}},
      {"CAP_SYS_RAWIO", {"iopl", "ioperm"}},
      {"CAP_SYS_PACCT", {"acct"}},
      {"CAP_SYS_NICE",
       {"mbind", "set_mempolicy", "set_mempolicy_home_node", "migrate_pages", "move_pages"}},
      {"CAP_SYS_TTY_CONFIG", {"vhangup"}},
      // Other processes' memory and fds. ptrace itself is safe with seccomp since Linux 4.8.
      {"CAP_SYS_PTRACE",
       {"process_vm_readv", "process_vm_writev", "kcmp", "process_madvise", "pidfd_getfd"}},
      // A file handle reaches files outside the root (CVE-2014-3519 and its like).
      {"CAP_DAC_READ_SEARCH", {"open_by_handle_at"}},
      // Keyrings know no namespaces; userfaultfd and io_uring are large attack surfaces.
      {"",
       {"add_key", "request_key", "keyctl", "userfaultfd", "io_uring_setup", "io_uring_enter",
        "io_uring_register"}},
      // Gone or never used.
      {"",
       {"uselib", "ustat", "sysfs", "_sysctl", "nfsservctl", "create_module", "get_kernel_syms",
        "query_module", "get_mempolicy", "vm86", "vm86old"}},
  };
  return denied;
}

constexpr uint64_t kNamespaceFlags = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
                                     CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;

oci::SeccompRule Deny(std::vector<std::string> names, uint32_t error) {
  oci::SeccompRule rule;
  rule.names = std::move(names);
  rule.action = "SCMP_ACT_ERRNO";
  rule.errno_ret = error;
  return rule;
}

}  // namespace

oci::Seccomp DefaultSeccomp(const std::vector<std::string>& capabilities) {
  const auto has = [&](const std::string& name) {
    return std::find(capabilities.begin(), capabilities.end(), name) != capabilities.end();
  };
  oci::Seccomp seccomp;
  seccomp.default_action = "SCMP_ACT_ALLOW";
  seccomp.architectures = {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"};
  const bool administrator = has("CAP_SYS_ADMIN");
  for (const Denied& denied : DeniedCalls()) {
    const std::string capability = denied.capability;
    const bool newer = capability == "CAP_BPF" || capability == "CAP_PERFMON" ||
                       capability == "CAP_SYSLOG";  // CAP_SYS_ADMIN was all three
    if (!has(capability) && !(newer && administrator)) {
      seccomp.rules.push_back(Deny(denied.names, EPERM));
    }
  }
  if (!administrator) {
    // One rule a flag: libseccomp's masked comparison tells "these bits are exactly so".
    for (uint64_t flag = 1; flag <= kNamespaceFlags; flag <<= 1U) {
      if ((kNamespaceFlags & flag) != 0) {
        oci::SeccompRule rule = Deny({"clone"}, EPERM);
        rule.args.push_back({0, flag, flag, "SCMP_CMP_MASKED_EQ"});
        seccomp.rules.push_back(std::move(rule));
      }
    }
    // Its flags are in memory, where a filter cannot look: libc falls back to clone on ENOSYS.
    seccomp.rules.push_back(Deny({"clone3"}, ENOSYS));
  }
  return seccomp;
}

}  // namespace bulkhead::cli
