// bulkhead check: what this host can and cannot do, in words, and what to do about it.
#include <sys/statfs.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/sys.h"
#include "cli/commands.h"
#include "cli/program_output.h"
#include "cli/run_network.h"
#include "hypervisor/accelerator.h"
#include "hypervisor/host.h"

namespace bulkhead::cli {
namespace {

enum class Verdict { kOk, kWarn, kFail };

struct Finding {
  std::string topic;
  Verdict verdict = Verdict::kOk;
  std::string text;
  std::string advice;  // what to do about it
};

const char* VerdictName(Verdict verdict) {
  return verdict == Verdict::kOk ? "OK" : verdict == Verdict::kWarn ? "WARN" : "FAIL";
}

Finding CheckRoot() {
  if (::geteuid() == 0) {
    return {"root", Verdict::kOk, "running as root", ""};
  }
  return {"root", Verdict::kFail, "not running as root: mounts and layers need it",
          "run bulkhead as root, for instance with sudo"};
}

Finding CheckKvm() {
  const hypervisor::AcceleratorProbe probe = hypervisor::ProbeKvm();
  if (probe.usable) {
    return {"kvm", Verdict::kOk, probe.explanation, ""};
  }
  return {
      "kvm", Verdict::kWarn, probe.explanation + ": VMs are emulated (TCG), about ten times slower",
      "use a host with hardware virtualisation (nested, if it is a VM itself) and load kvm_intel "
      "or kvm_amd"};
}

Finding CheckVsock() {
  if (hypervisor::HostHasVsock()) {
    return {"vsock", Verdict::kOk, "/dev/vhost-vsock opens: guests are reached by vsock", ""};
  }
  return {"vsock", Verdict::kWarn,
          "/dev/vhost-vsock does not open: guests are reached by virtio-serial instead, a little "
          "slower",
          "modprobe vhost_vsock"};
}

// The first line that `qemu --version` prints.
Result<std::string> VersionOf(const std::string& program) {
  const std::string text = TRY(OutputOf({program, "--version"}));
  return text.substr(0, text.find('\n'));
}

Finding CheckQemu(const Config& config) {
  const Result<std::string> version = VersionOf(config.qemu);
  if (version && !version->empty()) {
    return {"qemu", Verdict::kOk, fmt::format("{}: {}", config.qemu, *version), ""};
  }
  return {"qemu", Verdict::kFail,
          version ? config.qemu + " does not tell its version" : version.error().message(),
          "apt-get install qemu-system-x86, or set [hypervisor] qemu in the configuration"};
}

Finding CheckVirtiofsd(const Config& config) {
  if (config.transport == "9p") {
    return {"file sharing", Verdict::kOk, "9p, as configured", ""};
  }
  const std::string path = FindVirtiofsd(config);
  if (!path.empty() && ::access(path.c_str(), X_OK) == 0) {
    return {"file sharing", Verdict::kOk, "virtio-fs by " + path, ""};
  }
  const bool must = config.transport == "virtiofs";
  return {"file sharing", must ? Verdict::kFail : Verdict::kWarn,
          must ? "virtiofsd is missing, and the configuration asks for it"
               : "virtiofsd is missing: 9p is used, slower with many small files",
          "install virtiofsd (Debian 12: it comes with qemu-system-common), or set [sharing] "
          "virtiofsd"};
}

Finding CheckUserNetwork(const Config& config) {
  const std::string passt = FindPasst(config);
  const Result<std::string> version = passt.empty() ? std::string() : VersionOf(passt);
  if (version && !version->empty()) {
    return {"user network", Verdict::kOk, fmt::format("{}: {}", passt, *version), ""};
  }
  const std::string missing = config.user_backend == "slirp" ? "as configured"
                              : version                      ? "there is no passt"
                                                             : version.error().message();
  if (config.user_backend != "passt" && QemuHasUserNetwork(config.qemu).value_or(false)) {
    return {"user network", config.user_backend == "slirp" ? Verdict::kOk : Verdict::kWarn,
            "QEMU's own (slirp), slower than passt: " + missing, "apt-get install passt"};
  }
  return {"user network", Verdict::kWarn, "none: " + missing + "; run --network user does not work",
          "apt-get install passt, or set [network] passt"};
}

Finding CheckCgroups() {
  struct statfs info {};
  constexpr long kCgroup2 = 0x63677270;
  if (::statfs("/sys/fs/cgroup", &info) == 0 && info.f_type == kCgroup2) {
    return {"cgroups", Verdict::kOk, "version 2", ""};
  }
  if (sys::Exists("/sys/fs/cgroup/memory")) {
    return {"cgroups", Verdict::kWarn,
            "version 1 on this host; containers have version 2, inside their VM, all the same", ""};
  }
  return {"cgroups", Verdict::kWarn,
          "none mounted at /sys/fs/cgroup: the VM itself is not limited by the host",
          "mount -t cgroup2 none /sys/fs/cgroup"};
}

Finding CheckFile(const std::string& topic, const std::string& path) {
  const Result<struct stat> info = sys::Stat(path);
  if (info && S_ISREG(info->st_mode) && info->st_size > 0) {
    return {topic, Verdict::kOk,
            fmt::format("{} ({:.1f} MB)", path, static_cast<double>(info->st_size) / 1e6), ""};
  }
  return {topic, Verdict::kFail,
          info ? path + " is not a file with content" : info.error().message(),
          "build and install it (make install), or name it in the configuration"};
}

Finding CheckMemory(const Config& config) {
  const Result<std::string> text = sys::ReadFile("/proc/meminfo");
  uint64_t available = hypervisor::HostMemoryBytes();
  if (text) {
    const size_t line = text->find("MemAvailable:");
    if (line != std::string::npos) {
      available = std::strtoull(text->c_str() + line + 13, nullptr, 10) << 10U;
    }
  }
  const uint64_t needed = config.memory_bytes + config.memory_overhead_bytes;
  const std::string found =
      fmt::format("{} MB available, a VM may grow to {} MB unless told otherwise", available >> 20U,
                  needed >> 20U);
  if (available >= needed) {
    return {"memory", Verdict::kOk, found, ""};
  }
  const bool hopeless = available < (192ULL << 20U);
  return {"memory", hopeless ? Verdict::kFail : Verdict::kWarn, found,
          "free some, or set a smaller [hypervisor] memory or run --memory"};
}

Finding CheckOverlay() {
  const Result<std::string> text = sys::ReadFile("/proc/filesystems");
  if (text && text->find("\toverlay\n") != std::string::npos) {
    return {"overlay", Verdict::kOk, "the kernel has overlayfs", ""};
  }
  return {"overlay", Verdict::kWarn, "the kernel does not list overlayfs",
          "modprobe overlay (it is often loaded by the first mount)"};
}

std::vector<Finding> Findings(const Config& config) {
  std::vector<Finding> findings{
      CheckRoot(),
      {"configuration", Verdict::kOk,
       config.source.empty() ? "built-in values, no file" : config.source, ""},
      CheckKvm(),
      CheckVsock(),
      CheckQemu(config),
      CheckVirtiofsd(config),
      CheckUserNetwork(config),
      CheckCgroups(),
      CheckOverlay(),
      CheckFile("guest kernel", config.kernel),
      CheckFile("guest image", config.image),
      CheckMemory(config)};
  if (const Result<std::string> folder = ProgramFolder()) {
    findings.push_back(CheckFile("daemon", *folder + "/containerd-shim-bulkhead-v2"));
  }
  return findings;
}

Status Show(const std::vector<Finding>& findings, bool json) {
  if (json) {
    auto list = nlohmann::json::array();
    for (const Finding& finding : findings) {
      list.push_back({{"topic", finding.topic},
                      {"verdict", VerdictName(finding.verdict)},
                      {"text", finding.text},
                      {"advice", finding.advice}});
    }
    return PrintOut(list.dump(2) + "\n");
  }
  std::string text;
  for (const Finding& finding : findings) {
    text += fmt::format("{:4}  {:13}  {}\n", VerdictName(finding.verdict), finding.topic,
                        OneLine(finding.text));
    if (finding.verdict != Verdict::kOk && !finding.advice.empty()) {
      text += fmt::format("{:21}what to do: {}\n", "", finding.advice);
    }
  }
  return PrintOut(text);
}

int CheckCommand(Context& context, bool json) {
  const Result<Config> config = context.LoadConfig();
  if (!config) {
    return context.Fail(config.error());
  }
  const std::vector<Finding> findings = Findings(*config);
  if (const Status shown = Show(findings, json); !shown) {
    return context.Fail(shown.error());
  }
  for (const Finding& finding : findings) {
    if (finding.verdict == Verdict::kFail) {
      return 1;
    }
  }
  return 0;
}

}  // namespace

void AddCheck(CLI::App& app, GlobalOptions& globals, Action& action) {
  CLI::App* check = app.add_subcommand(
      "check", "Explain what this host can and cannot do, and what to do about it.");
  auto format = std::make_shared<std::string>("text");
  check->add_option("--format", *format, "text or json")
      ->type_name("FORMAT")
      ->check(CLI::IsMember({"text", "json"}));
  AddGlobalOptions(*check, globals);
  check->footer("Exit code: 1 when a container could not run, else 0.");
  check->callback([&action, format] {
    action = [format](Context& context) { return CheckCommand(context, *format == "json"); };
  });
}

}  // namespace bulkhead::cli
