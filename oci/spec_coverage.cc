#include "oci/spec_coverage.h"

#include <fmt/format.h>

#include <array>

namespace bulkhead::oci {
namespace {

using Row = FieldCoverage;
using enum FieldCoverage::Status;

constexpr std::array kTable{
    // --- The document
    Row{"ociVersion", kDone, "any 1.x", "Spec.RefusesWhatIsNoSpec"},
    Row{"root.path", kDone, "", "test_spec.py::test_root"},
    Row{"root.readonly", kDone, "", "test_spec.py::test_root"},
    Row{"hostname", kDone, "needs a UTS namespace; of one that is joined the name stays",
        "test_spec.py::test_names"},
    Row{"domainname", kDone, "as hostname", "test_spec.py::test_names"},
    Row{"annotations", kHost, "in the state; those of CRI plugins say which pod it is",
        "RoleOf.KnowsTheAnnotationsOfCriPlugins"},
    Row{"solaris", kRefused, "another system's", "test_spec.py::test_refused"},
    Row{"windows", kRefused, "another system's", "test_spec.py::test_refused"},
    Row{"zos", kRefused, "another system's", "test_spec.py::test_refused"},
    Row{"freebsd", kRefused, "another system's", "test_spec.py::test_refused"},
    Row{"vm", kRefused, "the VM is Bulkhead's own: see configuration.md",
        "test_spec.py::test_refused"},
    // --- process
    Row{"process.terminal", kDone, "", "test_oci.py::test_a_terminal"},
    Row{"process.consoleSize.height", kDone, "", "test_oci.py::test_a_terminal"},
    Row{"process.consoleSize.width", kDone, "", "test_oci.py::test_a_terminal"},
    Row{"process.user.uid", kDone, "", "test_spec.py::test_user"},
    Row{"process.user.gid", kDone, "", "test_spec.py::test_user"},
    Row{"process.user.umask", kDone, "", "test_spec.py::test_user"},
    Row{"process.user.additionalGids", kDone, "", "test_spec.py::test_user"},
    Row{"process.user.username", kNoEffect, "of Windows", "SpecFields.LabelsHaveNoEffectButAForm"},
    Row{"process.args", kDone, "", "test_spec.py::test_args_env_and_cwd"},
    Row{"process.env", kDone, "HOME is added if it is missing",
        "test_spec.py::test_args_env_and_cwd"},
    Row{"process.cwd", kDone, "made if it is missing", "test_spec.py::test_args_env_and_cwd"},
    Row{"process.commandLine", kNoEffect, "of Windows; a warning", "SpecFields.WindowsCommandLine"},
    Row{"process.capabilities.bounding", kDone, "unknown names: a warning",
        "test_spec.py::test_capabilities"},
    Row{"process.capabilities.effective", kDone, "the same", "test_spec.py::test_capabilities"},
    Row{"process.capabilities.inheritable", kDone, "the same", "test_spec.py::test_capabilities"},
    Row{"process.capabilities.permitted", kDone, "the same", "test_spec.py::test_capabilities"},
    Row{"process.capabilities.ambient", kDone, "the same", "test_spec.py::test_capabilities"},
    Row{"process.rlimits[].type", kDone, "one type twice is refused", "test_spec.py::test_rlimits"},
    Row{"process.rlimits[].soft", kDone, "", "test_spec.py::test_rlimits"},
    Row{"process.rlimits[].hard", kDone, "", "test_spec.py::test_rlimits"},
    Row{"process.noNewPrivileges", kDone, "", "test_spec.py::test_oom_score_and_new_privileges"},
    Row{"process.oomScoreAdj", kDone, "", "test_spec.py::test_oom_score_and_new_privileges"},
    Row{"process.scheduler.policy", kDone, "SCHED_ISO is refused: Linux has none",
        "test_spec.py::test_schedulers"},
    Row{"process.scheduler.nice", kDone, "", "test_spec.py::test_schedulers"},
    Row{"process.scheduler.priority", kDone, "", "test_spec.py::test_schedulers"},
    Row{"process.scheduler.flags", kDone, "", "test_spec.py::test_scheduler_flags"},
    Row{"process.scheduler.runtime", kDone, "", "test_spec.py::test_schedulers"},
    Row{"process.scheduler.deadline", kDone, "", "test_spec.py::test_schedulers"},
    Row{"process.scheduler.period", kDone, "", "test_spec.py::test_schedulers"},
    Row{"process.ioPriority.class", kGuest, "of disks of the guest",
        "test_spec.py::test_io_priority"},
    Row{"process.ioPriority.priority", kGuest, "the same", "test_spec.py::test_io_priority"},
    Row{"process.execCPUAffinity.initial", kGuest, "CPUs of the guest",
        "test_spec.py::test_exec_cpu_affinity"},
    Row{"process.execCPUAffinity.final", kGuest, "CPUs of the guest",
        "test_spec.py::test_exec_cpu_affinity"},
    Row{"process.apparmorProfile", kNoEffect, "the guest has no AppArmor",
        "SpecFields.LabelsHaveNoEffectButAForm"},
    Row{"process.selinuxLabel", kNoEffect, "the guest has no SELinux",
        "SpecFields.LabelsHaveNoEffectButAForm"},
    // --- mounts
    Row{"mounts[].destination", kDone, "links in the image stay inside it",
        "AgentVm.LinksInTheImageStayInside"},
    Row{"mounts[].type", kDone, "", "test_spec.py::test_mount_options"},
    Row{"mounts[].source", kDone, "a bind is of a folder or file of the host, shared with the VM",
        "test_spec.py::test_mount_options"},
    Row{"mounts[].options", kDone, "what is in no row below is the file system's own",
        "test_spec.py::test_mount_options"},
    Row{"mounts[].options: bind, rbind", kDone, "", "test_spec.py::test_mount_options"},
    Row{"mounts[].options: ro, rw, suid, nosuid, dev, nodev, exec, noexec, defaults", kDone, "",
        "test_spec.py::test_mount_options"},
    Row{"mounts[].options: atime, noatime, diratime, nodiratime, relatime, norelatime, "
        "strictatime, nostrictatime, lazytime, nolazytime",
        kDone, "", "MountOptions.Parses"},
    Row{"mounts[].options: sync, async, dirsync, mand, nomand, silent, loud, iversion, noiversion, "
        "acl, noacl, symfollow, nosymfollow",
        kDone, "", "MountOptions.EveryNameIsTaken"},
    Row{"mounts[].options: remount", kDone, "", "MountOptions.EveryNameIsTaken"},
    Row{"mounts[].options: private, rprivate, shared, rshared, slave, rslave, unbindable, "
        "runbindable",
        kGuest, "between containers' mounts in the guest; nothing reaches the host",
        "test_spec.py::test_mount_options"},
    Row{"mounts[].options: rro, rrw, rsuid, rnosuid, rdev, rnodev, rexec, rnoexec, rdiratime, "
        "rnodiratime, rrelatime, rnoatime, rstrictatime, rsymfollow, rnosymfollow",
        kDone, "", "test_spec.py::test_mount_options"},
    Row{"mounts[].options: tmpcopyup", kDone, "with owners, modes, times, links and special files",
        "test_spec.py::test_tmpcopyup"},
    Row{"mounts[].options: idmap, ridmap", kHost,
        "of volumes: on the host, which must have a file system for it",
        "test_volumes.py::test_id_maps"},
    Row{"mounts[].uidMappings", kHost, "the same; counts as idmap",
        "test_volumes.py::test_id_maps"},
    Row{"mounts[].gidMappings", kHost, "the same", "test_volumes.py::test_id_maps"},
    Row{"mounts[].uidMappings[].containerID, hostID, size", kHost, "",
        "test_volumes.py::test_id_maps"},
    Row{"mounts[].gidMappings[].containerID, hostID, size", kHost, "",
        "test_volumes.py::test_id_maps"},
    // --- hooks
    Row{"hooks.prestart", kHost, "engines' OCI runtimes; refused below containerd's shim",
        "test_oci.py::test_hooks_in_order"},
    Row{"hooks.createRuntime", kHost, "engines' OCI runtimes; refused below containerd's shim",
        "test_oci.py::test_hooks_in_order"},
    Row{"hooks.poststart", kHost, "engines' OCI runtimes; refused below containerd's shim",
        "test_oci.py::test_hooks_in_order"},
    Row{"hooks.poststop", kHost, "engines' OCI runtimes; refused below containerd's shim",
        "test_oci.py::test_hooks_in_order"},
    Row{"hooks.createContainer", kHost, "on the host, in the container's network namespace",
        "test_oci.py::test_hooks_in_order"},
    Row{"hooks.startContainer", kGuest, "", "test_oci.py::test_hooks_of_the_container"},
    Row{"hooks.*[].path", kDone, "", "HooksTest.ReadTheStateInOrder"},
    Row{"hooks.*[].args", kDone, "", "HooksTest.ArgumentsAndEnvironmentAreTheSpecs"},
    Row{"hooks.*[].env", kDone, "", "HooksTest.ArgumentsAndEnvironmentAreTheSpecs"},
    Row{"hooks.*[].timeout", kDone, "", "HooksTest.ATimeoutKills"},
    // --- linux
    Row{"linux.namespaces[].type: pid", kGuest, "must be there", "test_spec.py::test_namespaces"},
    Row{"linux.namespaces[].type: network", kGuest,
        "must be there; what is in the host's is carried into the VM",
        "test_oci.py::test_cgroup_and_network"},
    Row{"linux.namespaces[].type: ipc", kGuest, "", "test_spec.py::test_namespaces"},
    Row{"linux.namespaces[].type: uts", kGuest, "", "test_spec.py::test_namespaces"},
    Row{"linux.namespaces[].type: mount", kGuest, "must be there", "test_spec.py::test_namespaces"},
    Row{"linux.namespaces[].type: cgroup", kGuest, "also if it is not asked for",
        "test_spec.py::test_namespaces"},
    Row{"linux.namespaces[].type: time", kGuest, "", "test_spec.py::test_namespaces"},
    Row{"linux.namespaces[].type: user", kGuest,
        "of the guest's ids; its root has no capabilities over the pod's network",
        "test_user_namespaces.py::test_who_it_is"},
    Row{"linux.namespaces[].path", kGuest, "of a container of ours, whose VM it joins",
        "test_oci.py::test_joining_anothers_network"},
    Row{"linux.uidMappings", kGuest, "the numbers outside are the guest's and the host's files'",
        "test_user_namespaces.py::test_owners_of_files"},
    Row{"linux.gidMappings", kGuest, "the same", "test_user_namespaces.py::test_owners_of_files"},
    Row{"linux.uidMappings[].containerID, hostID, size", kGuest, "",
        "test_user_namespaces.py::test_another_beside_it"},
    Row{"linux.gidMappings[].containerID, hostID, size", kGuest, "",
        "test_user_namespaces.py::test_another_beside_it"},
    Row{"linux.devices[].type", kGuest, "", "test_spec.py::test_devices"},
    Row{"linux.devices[].path", kGuest, "", "test_spec.py::test_devices"},
    Row{"linux.devices[].major", kGuest, "device numbers are the guest's",
        "test_spec.py::test_devices"},
    Row{"linux.devices[].minor", kGuest, "device numbers are the guest's",
        "test_spec.py::test_devices"},
    Row{"linux.devices[].fileMode", kGuest, "", "test_spec.py::test_devices"},
    Row{"linux.devices[].uid", kGuest, "", "test_spec.py::test_devices"},
    Row{"linux.devices[].gid", kGuest, "", "test_spec.py::test_devices"},
    Row{"linux.cgroupsPath", kHost, "of the stand-in, and of the VM of a pod's first container",
        "test_oci.py::test_cgroup_and_network"},
    Row{"linux.sysctl", kGuest,
        "those of a namespace that the container has, and of the whole kernel: its VM's",
        "test_spec.py::test_sysctls"},
    Row{"linux.rootfsPropagation", kGuest, "", "test_spec.py::test_rootfs_propagation"},
    Row{"linux.maskedPaths", kDone, "", "test_spec.py::test_hidden_paths"},
    Row{"linux.readonlyPaths", kDone, "", "test_spec.py::test_hidden_paths"},
    Row{"linux.mountLabel", kNoEffect, "the guest has no SELinux",
        "SpecFields.LabelsHaveNoEffectButAForm"},
    Row{"linux.personality.domain", kDone, "", "test_spec.py::test_personality"},
    Row{"linux.personality.flags", kRefused, "the specification knows none",
        "test_spec.py::test_refused"},
    Row{"linux.timeOffsets.*.secs", kDone, "needs a new time namespace",
        "test_spec.py::test_time_offsets"},
    Row{"linux.timeOffsets.*.nanosecs", kDone, "the same", "test_spec.py::test_time_offsets"},
    Row{"linux.intelRdt", kRefused,
        "closID, l3CacheSchema, memBwSchema, enableCMT, enableMBM: a VM has no Intel RDT",
        "test_spec.py::test_refused"},
    Row{"linux.netDevices", kRefused, "of specification 1.3", "test_spec.py::test_refused"},
    Row{"linux.memoryPolicy", kRefused, "of specification 1.3; the guest is one NUMA node",
        "test_spec.py::test_refused"},
    // --- linux.resources
    Row{"linux.resources.devices[].allow", kGuest, "", "test_spec.py::test_device_rules"},
    Row{"linux.resources.devices[].type", kGuest, "", "test_spec.py::test_device_rules"},
    Row{"linux.resources.devices[].major", kGuest, "device numbers are the guest's",
        "test_spec.py::test_device_rules"},
    Row{"linux.resources.devices[].minor", kGuest, "device numbers are the guest's",
        "test_spec.py::test_device_rules"},
    Row{"linux.resources.devices[].access", kGuest, "", "test_spec.py::test_device_rules"},
    Row{"linux.resources.cpu.shares", kGuest, "cpu.weight, by runc's formula",
        "test_spec.py::test_cpu"},
    Row{"linux.resources.cpu.quota", kGuest, "cpu.max; makes the VM as large as that",
        "test_spec.py::test_cpu"},
    Row{"linux.resources.cpu.period", kGuest, "cpu.max; makes the VM as large as that",
        "test_spec.py::test_cpu"},
    Row{"linux.resources.cpu.burst", kGuest, "cpu.max.burst", "test_spec.py::test_cpu_update"},
    Row{"linux.resources.cpu.idle", kGuest, "cpu.idle; not beside shares",
        "test_spec.py::test_cpu_update"},
    Row{"linux.resources.cpu.realtimeRuntime", kRefused, "cgroup v2 has none",
        "test_spec.py::test_refused"},
    Row{"linux.resources.cpu.realtimePeriod", kRefused, "cgroup v2 has none",
        "test_spec.py::test_refused"},
    Row{"linux.resources.cpu.cpus", kNoEffect, "the numbers are the host's",
        "ForgetHostCpus.AndMemoryNodes"},
    Row{"linux.resources.cpu.mems", kNoEffect, "the numbers are the host's",
        "ForgetHostCpus.AndMemoryNodes"},
    Row{"linux.resources.memory.limit", kGuest,
        "memory.max; makes the VM as large as that, and more", "test_spec.py::test_memory"},
    Row{"linux.resources.memory.reservation", kGuest, "memory.low", "test_spec.py::test_memory"},
    Row{"linux.resources.memory.swap", kGuest,
        "memory.swap.max; the guest has no swap unless it makes some", "Cgroups.ConvertsResources"},
    Row{"linux.resources.memory.kernel", kNoEffect, "as with runc; a warning",
        "test_spec.py::test_memory"},
    Row{"linux.resources.memory.kernelTCP", kNoEffect, "as with runc; a warning",
        "test_spec.py::test_memory"},
    Row{"linux.resources.memory.swappiness", kNoEffect, "cgroup v2 has none; a warning",
        "test_spec.py::test_memory"},
    Row{"linux.resources.memory.disableOOMKiller", kRefused, "cgroup v2 cannot; false is taken",
        "test_spec.py::test_refused"},
    Row{"linux.resources.memory.useHierarchy", kNoEffect, "cgroup v2 always does",
        "SpecFields.MemoryOfCgroupV1"},
    Row{"linux.resources.memory.checkBeforeUpdate", kGuest, "",
        "test_spec.py::test_memory_check_before_update"},
    Row{"linux.resources.pids.limit", kGuest, "pids.max", "test_spec.py::test_pids_and_hugepages"},
    Row{"linux.resources.blockIO.weight", kGuest, "io.bfq.weight: for disks with the scheduler bfq",
        "test_spec.py::test_block_io"},
    Row{"linux.resources.blockIO.leafWeight", kRefused, "cgroup v2 has none",
        "test_spec.py::test_refused"},
    Row{"linux.resources.blockIO.weightDevice[].major", kGuest,
        "a disk of the guest, with the scheduler bfq", "test_spec.py::test_block_io"},
    Row{"linux.resources.blockIO.weightDevice[].minor", kGuest,
        "a disk of the guest, with the scheduler bfq", "test_spec.py::test_block_io"},
    Row{"linux.resources.blockIO.weightDevice[].weight", kGuest,
        "a disk of the guest, with the scheduler bfq", "test_spec.py::test_block_io"},
    Row{"linux.resources.blockIO.weightDevice[].leafWeight", kRefused, "cgroup v2 has none",
        "SpecFields.BlockIoRefusesNonsense"},
    Row{"linux.resources.blockIO.throttleReadBpsDevice[].major, minor, rate", kGuest,
        "io.max, of a disk of the guest", "test_spec.py::test_block_io"},
    Row{"linux.resources.blockIO.throttleWriteBpsDevice[].major, minor, rate", kGuest,
        "io.max, of a disk of the guest", "test_spec.py::test_block_io"},
    Row{"linux.resources.blockIO.throttleReadIOPSDevice[].major, minor, rate", kGuest,
        "io.max, of a disk of the guest", "test_spec.py::test_block_io"},
    Row{"linux.resources.blockIO.throttleWriteIOPSDevice[].major, minor, rate", kGuest,
        "io.max, of a disk of the guest", "test_spec.py::test_block_io"},
    Row{"linux.resources.hugepageLimits[].pageSize", kGuest, "hugetlb.SIZE.max",
        "test_spec.py::test_pids_and_hugepages"},
    Row{"linux.resources.hugepageLimits[].limit", kGuest,
        "hugetlb.SIZE.max; as many pages are kept, and the VM is larger by them",
        "test_hugepages.py::test_a_hugetlbfs_of_the_container"},
    Row{"linux.resources.network", kRefused, "classID, priorities: cgroup v2 has none",
        "test_spec.py::test_refused"},
    Row{"linux.resources.rdma", kRefused, "hcaHandles, hcaObjects: the guest has no such device",
        "test_spec.py::test_refused"},
    Row{"linux.resources.unified", kGuest, "", "test_spec.py::test_memory"},
    // --- linux.seccomp
    Row{"linux.seccomp.defaultAction", kDone, "SCMP_ACT_NOTIFY is refused",
        "test_spec.py::test_seccomp_actions"},
    Row{"linux.seccomp.defaultErrnoRet", kDone, "", "Seccomp.CompilesADockerLikeProfile"},
    Row{"linux.seccomp.architectures", kDone,
        "all of libseccomp; of another byte order: refused, as libseccomp does",
        "Seccomp.EveryArchitectureOfTheGuestsByteOrder"},
    Row{"linux.seccomp.flags", kDone, "all four; WAIT_KILLABLE_RECV has nobody to wait for",
        "test_spec.py::test_seccomp_operators_and_flags"},
    Row{"linux.seccomp.listenerPath", kRefused,
        "a system call of the guest cannot be answered on the host", "test_spec.py::test_refused"},
    Row{"linux.seccomp.listenerMetadata", kRefused, "the same",
        "SpecFields.SeccompNotificationIsRefused"},
    Row{"linux.seccomp.syscalls[].names", kDone, "unknown names are skipped",
        "test_spec.py::test_seccomp_operators_and_flags"},
    Row{"linux.seccomp.syscalls[].action", kDone, "SCMP_ACT_NOTIFY is refused",
        "test_spec.py::test_seccomp_actions"},
    Row{"linux.seccomp.syscalls[].errnoRet", kDone, "",
        "test_spec.py::test_seccomp_operators_and_flags"},
    Row{"linux.seccomp.syscalls[].args[].index", kDone, "",
        "test_spec.py::test_seccomp_operators_and_flags"},
    Row{"linux.seccomp.syscalls[].args[].value", kDone, "",
        "test_spec.py::test_seccomp_operators_and_flags"},
    Row{"linux.seccomp.syscalls[].args[].valueTwo", kDone, "",
        "test_spec.py::test_seccomp_operators_and_flags"},
    Row{"linux.seccomp.syscalls[].args[].op", kDone, "all seven", "Seccomp.EveryActionAndOperator"},
};

std::string_view Word(FieldCoverage::Status status) {
  switch (status) {
    case kDone:
      return "done";
    case kGuest:
      return "guest";
    case kHost:
      return "host";
    case kNoEffect:
      return "no effect";
    case kRefused:
      return "refused";
  }
  return "";
}

constexpr std::string_view kHead =
    R"(<!-- Written by scripts/spec-coverage from oci/spec_coverage.cc: change that. -->
# The runtime specification, field by field

What becomes of each field of an OCI `config.json` (Linux, specification 1.2). *done*: as with runc on
cgroup v2; *guest*: the same within the guest, in terms of its kernel, CPUs and devices; *host*: done on
the host; *no effect*: must be of the right form, changes nothing; *refused*: an error that names the
field, before the container starts. Fields that the specification does not know are ignored, as it asks.

| field | | remark | test |
|---|---|---|---|
)";

}  // namespace

std::span<const FieldCoverage> SpecCoverage() { return kTable; }

std::string SpecCoverageMarkdown() {
  std::string out(kHead);
  for (const FieldCoverage& row : kTable) {
    out += fmt::format("| `{}` | {} | {} | `{}` |\n", row.field, Word(row.status), row.remark,
                       row.test);
  }
  return out;
}

}  // namespace bulkhead::oci
