#include "agent/init.h"

#include <fcntl.h>
#include <linux/random.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <span>
#include <sstream>
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "agent/cgroups.h"
#include "base/sys.h"

namespace bulkhead::agent {
namespace {

struct GuestMount {
  const char* type;
  const char* target;
  unsigned long flags;
  const char* data;
  bool needed;
};

constexpr unsigned long kQuiet = MS_NOSUID | MS_NODEV | MS_NOEXEC;
constexpr std::array kMounts{
    GuestMount{"proc", "/proc", kQuiet, "", true},
    GuestMount{"sysfs", "/sys", kQuiet, "", true},
    GuestMount{"devtmpfs", "/dev", MS_NOSUID, "mode=0755", true},
    GuestMount{"devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=0620,ptmxmode=0666,gid=5", true},
    GuestMount{"tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777", true},
    GuestMount{"mqueue", "/dev/mqueue", kQuiet, "", false},
    GuestMount{"tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755", true},
    GuestMount{"tmpfs", "/tmp", MS_NOSUID | MS_NODEV, "mode=1777", true},
    GuestMount{"cgroup2", "/sys/fs/cgroup", kQuiet, "nsdelegate", true},
};

// pivot_root, which containers need, refuses the kernel's first root: a bind mount over it is
// another root.
Status LeaveRootfs() {
  TRY(sys::MkdirAll("/.root"));
  TRY(sys::Mount("/", "/.root", "", MS_BIND));
  TRY(sys::Chdir("/.root"));
  TRY(sys::Mount(".", "/", "", MS_MOVE));
  TRY(sys::Chroot("."));
  return sys::Chdir("/");
}

Status MountAll() {
  for (const GuestMount& entry : kMounts) {
    TRY(sys::MkdirAll(entry.target));
    auto mounted = sys::Mount(entry.type, entry.target, entry.type, entry.flags, entry.data);
    if (!mounted && mounted.error().errnum() != EBUSY && entry.needed) {
      return mounted;
    }
  }
  return {};
}

Status BringUpLoopback() {
  const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  TRY(sys::CheckCall(socket.get(), "socket"));
  ifreq request{};
  std::strncpy(request.ifr_name, "lo", IFNAMSIZ - 1);
  TRY(sys::CheckCall(::ioctl(socket.get(), SIOCGIFFLAGS, &request), "flags of lo"));
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  return sys::CheckCall(::ioctl(socket.get(), SIOCSIFFLAGS, &request), "bring up lo");
}

void RaiseLimits() {
  // Containers inherit them where the spec says nothing, as from containerd's systemd unit.
  const rlimit files{1048576, 1048576};
  ::setrlimit(RLIMIT_NOFILE, &files);
  const rlimit none{RLIM_INFINITY, RLIM_INFINITY};
  ::setrlimit(RLIMIT_NPROC, &none);
  ::setrlimit(RLIMIT_CORE, &none);
}

void SetSysctls() {
  struct Sysctl {
    const char* path;
    const char* value;
  };
  constexpr std::array kSysctls{
      Sysctl{"/proc/sys/kernel/pid_max", "4194304"},
      Sysctl{"/proc/sys/fs/pipe-max-size", "1048576"},
      Sysctl{"/proc/sys/vm/overcommit_memory", "1"},
      Sysctl{"/proc/sys/vm/max_map_count", "262144"},
      Sysctl{"/proc/sys/fs/inotify/max_user_instances", "8192"},
      Sysctl{"/proc/sys/fs/inotify/max_user_watches", "524288"},
      Sysctl{"/proc/sys/fs/protected_hardlinks", "1"},
      Sysctl{"/proc/sys/fs/protected_symlinks", "1"},
      Sysctl{"/proc/sys/kernel/core_pattern", "core"},
  };
  for (const auto& [path, value] : kSysctls) {
    static_cast<void>(sys::WriteExisting(path, value));  // a kernel may lack any of them
  }
}

// 64 bytes of the CPU's random generator; empty when it has none.
std::string CpuRandom() {
  std::string bytes;
#if defined(__x86_64__)
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_RDRND) != 0) {
    for (int tries = 0; tries < 64 && bytes.size() < 64; ++tries) {
      unsigned long long value = 0;
      unsigned char good = 0;
      __asm__ volatile("rdrand %0; setc %1" : "=r"(value), "=qm"(good));
      if (good != 0) {
        bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
      }
    }
  }
#endif
  return bytes;
}

// A guest gathers little entropy by itself: the first getrandom() of the agent would block for
// about a second. The host's generator is good enough, for the guest trusts the host anyway.
void SeedRandom() {
  std::string seed(64, '\0');
  const auto device = sys::Open("/dev/hwrng", O_RDONLY | O_NONBLOCK);
  const auto count = device ? sys::Read(device->get(), std::as_writable_bytes(std::span(seed)))
                            : Result<size_t>(0);
  seed.resize(count.value_or(0));
  if (seed.empty()) {
    seed = CpuRandom();
  }
  if (!seed.empty()) {
    static_cast<void>(AddEntropy(seed));
  }
}

Status ParseChannel(std::string_view value, AgentOptions& options) {
  const size_t colon = value.find(':');
  const std::string_view kind = value.substr(0, colon);
  const std::string_view rest = colon == std::string_view::npos ? "" : value.substr(colon + 1);
  if (kind == "serial" && !rest.empty() && rest.find('/') == std::string_view::npos) {
    options.channel = AgentOptions::Channel::kSerial;
    options.port_name = rest;
    return {};
  }
  if (kind == "vsock") {
    options.channel = AgentOptions::Channel::kVsock;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), options.port);
    if (error == std::errc() && end == rest.data() + rest.size() && options.port != 0) {
      return {};
    }
  }
  return MakeError(ErrorCode::kInvalidArgument,
                   "bulkhead.channel={}: expected serial:NAME or vsock:PORT", value);
}

}  // namespace

Result<AgentOptions> ParseCommandLine(std::string_view text) {
  AgentOptions options;
  std::istringstream words{std::string(text)};
  for (std::string word; words >> word;) {
    constexpr std::string_view kChannel = "bulkhead.channel=";
    if (word == "bulkhead.debug" || word == "bulkhead.debug=1") {
      options.debug = true;
    } else if (word.starts_with(kChannel)) {
      TRY(ParseChannel(std::string_view(word).substr(kChannel.size()), options));
    }
  }
  return options;
}

Status SetUpGuest(Timeline& timeline) {
  ::umask(022);
  TRY(LeaveRootfs());
  timeline.Mark("left rootfs");
  TRY(MountAll());
  timeline.Mark("mounted");
  SeedRandom();
  TRY(EnableControllers("/sys/fs/cgroup"));
  timeline.Mark("cgroup controllers enabled");
  TRY(BringUpLoopback());
  RaiseLimits();
  SetSysctls();
  timeline.Mark("lo, limits and sysctls set");
  return {};
}

Status SetClock(int64_t nanoseconds) {
  constexpr int64_t kSecond = 1'000'000'000;
  const timespec time{nanoseconds / kSecond, nanoseconds % kSecond};
  return sys::CheckCall(::clock_settime(CLOCK_REALTIME, &time), "set the clock");
}

Status AddEntropy(std::string_view bytes) {
  constexpr size_t kMax = 4096;
  bytes = bytes.substr(0, kMax);
  std::vector<int> buffer(2 + (bytes.size() + sizeof(int) - 1) / sizeof(int));
  buffer[0] = static_cast<int>(bytes.size() * 8);  // entropy_count, in bits
  buffer[1] = static_cast<int>(bytes.size());      // buf_size
  std::memcpy(&buffer[2], bytes.data(), bytes.size());
  const UniqueFd random = TRY(sys::Open("/dev/random", O_WRONLY));
  return sys::CheckCall(::ioctl(random.get(), RNDADDENTROPY, buffer.data()), "add entropy");
}

void PowerOff() {
  ::sync();
  std::istringstream mounts(sys::ReadFile("/proc/self/mounts").value_or(""));
  std::vector<std::string> targets;
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream words(line);
    std::string source;
    std::string target;
    words >> source >> target;
    targets.push_back(target);
  }
  // What holds data of the host's or a disk's; the rest goes with the memory.
  for (auto target = targets.rbegin(); target != targets.rend(); ++target) {
    if (*target != "/" && *target != "/proc" && *target != "/dev" && *target != "/sys") {
      static_cast<void>(sys::Unmount(*target, MNT_DETACH));
    }
  }
  ::sync();
  ::reboot(RB_POWER_OFF);
  ::reboot(RB_AUTOBOOT);  // QEMU runs with -no-reboot
  ::_exit(1);             // the kernel panics
}

uint64_t MonotonicMicroseconds() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000 + static_cast<uint64_t>(now.tv_nsec) / 1000;
}

}  // namespace bulkhead::agent
