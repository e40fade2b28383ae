// The administrator's configuration: a TOML file with drop-ins, and what pods may change of it by
// annotations. An unknown key is an error that names it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace bulkhead {

struct Config {
  // [hypervisor]
  std::string driver = "qemu";
  std::string qemu = "/usr/bin/qemu-system-x86_64";
  std::string firmware = "qboot.rom";
  std::string kernel;  // default: ../share/bulkhead/vmlinux beside the program's folder
  std::string image;   // default: ../share/bulkhead/guest.img
  std::string kernel_parameters;
  std::string accel = "auto";                      // auto, kvm, tcg
  std::string channel = "auto";                    // auto, vsock, serial
  uint32_t vcpus = 1;                              // when no limit is asked for
  uint64_t memory_bytes = 1ULL << 30U;             // "1g"; when no limit is asked for
  uint64_t memory_overhead_bytes = 128ULL << 20U;  // the guest's own share, beside a limit
  uint32_t hotplug_slots = 31;  // of a pod that serves an engine, for drives and interfaces
  uint32_t boot_timeout_s = 120;
  uint32_t kvm_watchdog_s = 15;  // no sign of life by then under KVM: one retry under TCG
  // [sharing]
  std::string transport = "auto";  // auto, virtiofs, 9p
  std::string virtiofsd;           // empty: where distributions put it
  // [network]
  std::string network_model = "tc";   // how an engine's interfaces are carried: tc, macvtap
  std::string user_backend = "auto";  // of `run --network user`: auto, passt, slirp
  std::string passt;                  // empty: where distributions put it
  // [rootfs]
  std::string upper = "shared";              // where a container writes: shared, block, memory
  uint64_t upper_size_bytes = 0;             // 0: 10 GiB on a disk, half of what memory there is
  std::vector<std::string> upper_folders;    // of the container: on that disk or memory itself
  std::string mkfs = "/usr/sbin/mkfs.ext4";  // for block
  // [paths]
  std::string state_dir = "/run/bulkhead";     // pods; gone with a reboot
  std::string data_dir = "/var/lib/bulkhead";  // layers, writable layers
  // [annotations]
  // "hypervisor.memory": io.bulkhead.hypervisor.memory. Built in: what takes no more of the host
  // than a container can take without it.
  std::vector<std::string> allowed_annotations{"rootfs.upper", "rootfs.upper_size",
                                               "rootfs.upper_folders"};
  // where it was read from; empty: built-in values
  std::string source;
};

// One file and its drop-ins: FILE.d/*.toml, in the order of their names, each over the ones before.
// FILE is `path` if given; else $BULKHEAD_CONFIG; else ../etc/bulkhead/config.toml beside the
// program's folder; else /etc/bulkhead/config.toml; else the built-in values.
Result<Config> LoadConfig(const std::optional<std::string>& path);
// `name` is for errors.
Result<Config> ParseConfig(std::string_view text, const std::string& name);

// A pod's annotations io.bulkhead.SECTION.KEY, each in place of that key of the file; a dot may
// stand for an underscore in KEY. One that the administrator has not allowed is an error that names
// it.
Result<Config> ApplyAnnotations(Config config,
                                const std::map<std::string, std::string>& annotations);

// "512m", "2g", "1073741824", "1.5g": bytes, as docker's --memory takes them.
Result<uint64_t> ParseSize(std::string_view text);

// The virtiofsd to use: the configured one, else where distributions put it. Empty: none is there,
// or none is wanted; files are shared by 9p.
std::string FindVirtiofsd(const Config& config);

// The passt to use: the configured one, else where distributions put it. Empty: none is there, or
// none is wanted.
std::string FindPasst(const Config& config);

// The folder of the running program.
Result<std::string> ProgramFolder();

}  // namespace bulkhead
