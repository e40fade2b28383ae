#include "hypervisor/qemu/virtiofsd.h"

#include "base/scope_guard.h"
#include "base/sys.h"

namespace bulkhead::hypervisor::qemu {
namespace {

constexpr int kListeningFd = 3;

// A value among the comma-separated ones of -o, as libfuse reads them.
std::string EscapeFuse(const std::string& value) {
  std::string escaped;
  for (const char c : value) {
    if (c == ',' || c == '\\') {
      escaped += '\\';
    }
    escaped += c;
  }
  return escaped;
}

}  // namespace

VirtiofsdFlavor FlavorFromHelp(const std::string& help) {
  return help.find("--shared-dir") != std::string::npos ? VirtiofsdFlavor::kRust
                                                        : VirtiofsdFlavor::kC;
}

Result<VirtiofsdFlavor> ProbeVirtiofsd(const std::string& program, SpawnThread& spawner) {
  sys::Pipe pipe = TRY(sys::MakePipe());
  SpawnOptions options;
  options.argv = {program, "--help"};
  options.fds = {{pipe.write.get(), 1}, {pipe.write.get(), 2}};
  Child child = TRY(spawner.Spawn(options));
  pipe.write.Reset();
  return FlavorFromHelp(TRY(sys::ReadFd(pipe.read.get(), 1U << 20U, program)));
}

std::vector<std::string> VirtiofsdArguments(const std::string& program, VirtiofsdFlavor flavor,
                                            const std::string& path, int listening_fd) {
  const std::string fd = fmt::format("--fd={}", listening_fd);
  if (flavor == VirtiofsdFlavor::kRust) {
    return {program,
            fd,
            "--shared-dir",
            path,
            "--announce-submounts",
            "--sandbox=namespace",
            "--xattr",
            "--posix-acl",
            "--cache=auto",
            "--thread-pool-size=0"};
  }
  return {program,
          fd,
          "-o",
          "source=" + EscapeFuse(path),
          "-o",
          "sandbox=namespace,xattr,posix_acl,announce_submounts,cache=auto,log_level=warn",
          "--thread-pool-size=0"};
}

Result<Virtiofsd> Virtiofsd::Start(const std::string& program, VirtiofsdFlavor flavor,
                                   const std::string& path, const std::string& socket_path,
                                   SpawnThread& spawner) {
  const UniqueFd listener = TRY(sys::ListenUnix(socket_path, 0600, 1));
  const ScopeGuard unlink([&] { (void)sys::Unlink(socket_path); });
  UniqueFd connection = TRY(sys::ConnectUnix(socket_path));
  sys::Pipe errors = TRY(sys::MakePipe());
  SpawnOptions options;
  options.argv = VirtiofsdArguments(program, flavor, path, kListeningFd);
  options.fds = {{listener.get(), kListeningFd}, {errors.write.get(), 1}, {errors.write.get(), 2}};
  Child child = TRY(spawner.Spawn(options));
  return Virtiofsd{path, std::move(child), LastWords(std::move(errors.read)),
                   std::move(connection)};
}

}  // namespace bulkhead::hypervisor::qemu
