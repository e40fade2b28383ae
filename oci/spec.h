// The part of the OCI runtime specification (config.json, version 1.2) that Bulkhead carries out,
// as plain values. Parsing refuses what is malformed by the name of the field.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace bulkhead::oci {

struct User {
  uint32_t uid = 0;
  uint32_t gid = 0;
  std::optional<uint32_t> umask;
  std::vector<uint32_t> additional_gids;
};

struct ConsoleSize {
  uint32_t height = 0;
  uint32_t width = 0;
};

struct Rlimit {
  std::string type;  // "RLIMIT_NOFILE"
  uint64_t soft = 0;
  uint64_t hard = 0;
};

// Names such as "CAP_CHOWN".
struct Capabilities {
  std::vector<std::string> bounding;
  std::vector<std::string> effective;
  std::vector<std::string> inheritable;
  std::vector<std::string> permitted;
  std::vector<std::string> ambient;
};

// Of sched_setattr(2). Times in nanoseconds, for SCHED_DEADLINE alone.
struct Scheduler {
  std::string policy;  // "SCHED_OTHER"
  int32_t nice = 0;
  int32_t priority = 0;
  std::vector<std::string> flags;  // "SCHED_FLAG_RESET_ON_FORK"
  uint64_t runtime = 0;
  uint64_t deadline = 0;
  uint64_t period = 0;
};

struct IoPriority {
  std::string io_class;  // "IOPRIO_CLASS_BE"
  int32_t priority = 0;  // 0, the first, to 7
};

// CPUs of the guest ("0-3,7"), of processes that are exec'ed; empty: as they come.
struct CpuAffinity {
  std::string initial;  // while it enters the container
  std::string final_;   // of the command
};

struct Process {
  bool terminal = false;
  std::optional<ConsoleSize> console_size;
  User user;
  std::vector<std::string> args;
  std::vector<std::string> env;  // "NAME=value"
  std::string cwd = "/";
  std::optional<Capabilities> capabilities;
  std::vector<Rlimit> rlimits;
  bool no_new_privileges = false;
  std::optional<int> oom_score_adj;
  std::optional<Scheduler> scheduler;
  std::optional<IoPriority> io_priority;
  std::optional<CpuAffinity> exec_cpu_affinity;
};

struct Root {
  std::string path;
  bool readonly = false;
};

struct IdMapping {
  uint32_t container_id = 0;
  uint32_t host_id = 0;
  uint32_t size = 0;
};

struct Mount {
  std::string destination;
  std::string type;
  std::string source;
  std::vector<std::string> options;
  // Of a bind: whom the files are shown to belong to.
  std::vector<IdMapping> uid_mappings = {};
  std::vector<IdMapping> gid_mappings = {};
};

struct Namespace {
  std::string type;  // pid, network, ipc, uts, mount, user, cgroup, time
  std::string path;  // empty: a new one
};

struct Device {
  std::string type;  // c, b, u, p
  std::string path;
  int64_t major = 0;
  int64_t minor = 0;
  std::optional<uint32_t> file_mode;
  std::optional<uint32_t> uid;
  std::optional<uint32_t> gid;
};

struct DeviceRule {
  bool allow = false;
  std::string type = "a";  // a, c, b
  std::optional<int64_t> major;
  std::optional<int64_t> minor;
  std::string access = "rwm";
};

struct CpuResources {
  std::optional<uint64_t> shares;
  std::optional<int64_t> quota;    // microseconds per period; <= 0: no limit
  std::optional<uint64_t> period;  // microseconds
  std::string cpus;
  std::string mems;
  std::optional<uint64_t> burst;  // microseconds
  std::optional<int64_t> idle;    // 0 or 1
};

// Bytes; -1: no limit.
struct MemoryResources {
  std::optional<int64_t> limit;
  std::optional<int64_t> reservation;
  std::optional<int64_t> swap;       // memory plus swap, as in cgroup v1
  bool check_before_update = false;  // a limit below what is in use is refused
};

// Device numbers are the guest's.
struct WeightDevice {
  int64_t major = 0;
  int64_t minor = 0;
  uint16_t weight = 0;
};

struct ThrottleDevice {
  int64_t major = 0;
  int64_t minor = 0;
  uint64_t rate = 0;  // bytes or operations in a second; 0: no limit
};

struct BlockIo {
  uint16_t weight = 0;  // 10 to 1000; 0: not given
  std::vector<WeightDevice> weight_devices;
  std::vector<ThrottleDevice> read_bps;
  std::vector<ThrottleDevice> write_bps;
  std::vector<ThrottleDevice> read_iops;
  std::vector<ThrottleDevice> write_iops;
};

struct HugepageLimit {
  std::string page_size;                                             // "2MB"
  uint64_t limit = 0;                                                // bytes
  bool unlimited() const { return limit >= 0x7FFF'FFFF'FFFF'F000; }  // the kernel's "max"
};

struct Resources {
  std::vector<DeviceRule> devices;
  CpuResources cpu;
  MemoryResources memory;
  std::optional<int64_t> pids_limit;  // <= 0: no limit
  BlockIo block_io;
  std::vector<HugepageLimit> hugepage_limits;
  std::map<std::string, std::string> unified;  // cgroup v2 file -> value
};

struct SeccompArg {
  uint32_t index = 0;
  uint64_t value = 0;
  uint64_t value_two = 0;
  std::string op;  // SCMP_CMP_EQ ...
};

struct SeccompRule {
  std::vector<std::string> names;
  std::string action;
  std::optional<uint32_t> errno_ret;
  std::vector<SeccompArg> args;
};

struct Seccomp {
  std::string default_action;
  std::optional<uint32_t> default_errno_ret;
  std::vector<std::string> architectures;
  std::vector<std::string> flags;
  std::vector<SeccompRule> rules;
};

// What a new time namespace adds to a clock.
struct TimeOffset {
  int64_t secs = 0;
  uint32_t nanosecs = 0;
};

struct Linux {
  std::vector<Namespace> namespaces;
  std::vector<IdMapping> uid_mappings;
  std::vector<IdMapping> gid_mappings;
  std::vector<Device> devices;
  std::string cgroups_path;
  Resources resources;
  std::optional<Seccomp> seccomp;
  std::map<std::string, std::string> sysctl;
  std::string rootfs_propagation;
  std::vector<std::string> masked_paths;
  std::vector<std::string> readonly_paths;
  std::string personality;                         // "LINUX", "LINUX32"; empty: as it comes
  std::map<std::string, TimeOffset> time_offsets;  // "monotonic", "boottime"
};

struct Hook {
  std::string path;
  std::vector<std::string> args;  // with argv[0]; empty: the path
  std::vector<std::string> env;
  std::optional<int64_t> timeout;  // seconds
};

// Programs of the host (startContainer: of the container) for the moments of a container's life.
struct Hooks {
  std::vector<Hook> prestart;
  std::vector<Hook> create_runtime;
  std::vector<Hook> create_container;
  std::vector<Hook> start_container;
  std::vector<Hook> poststart;
  std::vector<Hook> poststop;
  bool empty() const {
    return prestart.empty() && create_runtime.empty() && create_container.empty() &&
           start_container.empty() && poststart.empty() && poststop.empty();
  }
};

struct Spec {
  std::string version = "1.0.2";
  Root root;
  std::optional<Process> process;
  std::string hostname;
  std::string domainname;
  std::vector<Mount> mounts;
  std::map<std::string, std::string> annotations;
  Linux linux_;
  Hooks hooks;  // of the host: SpecToJson leaves them out
  // What was asked for and has no effect, a sentence each; not part of the JSON.
  std::vector<std::string> warnings;
};

// Errors name the field ("config.json: process.user.uid: expected a number"). A field that asks for
// something Bulkhead does not do (id-mapped mounts, intelRdt ...) is refused by name rather than
// ignored. spec_coverage.cc lists every field and what becomes of it.
Result<Spec> ParseSpec(std::string_view json);
// Appends to `warnings`, if there, what has no effect.
Result<Process> ParseProcess(std::string_view json, std::vector<std::string>* warnings = nullptr);
// The linux.resources object.
Result<Resources> ParseResources(std::string_view json,
                                 std::vector<std::string>* warnings = nullptr);
std::string SpecToJson(const Spec& spec);
std::string ProcessToJson(const Process& process);
std::string ResourcesToJson(const Resources& resources);

}  // namespace bulkhead::oci
