#include "agent/guest_test.h"

#include <array>
#include <cstdlib>
#include <iostream>
#include <thread>
#include <utility>

#include "base/sys.h"
#include "rpc/channel.h"

namespace bulkhead::agent {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr uint32_t kWindow = 4U << 20U;
constexpr char kBusybox[] = "/bin/busybox";
constexpr char kQemu[] = "/usr/bin/qemu-system-x86_64";

std::string Kernel() {
  return EnvOr("BULKHEAD_TEST_KERNEL", BULKHEAD_SOURCE_DIR "/build/kernel/vmlinux");
}

bool RunScript(const std::string& script) { return std::system(script.c_str()) == 0; }

}  // namespace

std::string EnvOr(const char* name, const char* fallback) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : fallback;
}

std::string Text(const grpc::Status& status) {
  return status.ok() ? "ok" : status.error_details() + ": " + status.error_message();
}

milliseconds::rep MillisecondsSince(steady_clock::time_point begin) {
  return std::chrono::duration_cast<milliseconds>(steady_clock::now() - begin).count();
}

bool Guest::Possible() {
  return sys::Exists(Kernel()) && sys::Exists(kQemu) && sys::Exists(kBusybox);
}

bool Guest::MakeFiles() {
  const bool made = RunScript(fmt::format(
      "mkdir -p {0}/i {0}/share/rootfs && cd {0}/share/rootfs && "
      "mkdir bin data dev etc proc sys && cp " BULKHEAD_AGENT
      " {0}/i/init && cd {0}/i && echo init | cpio -o -H newc --quiet > {0}/initrd && "
      "cd {0}/share/rootfs && cp {1} bin/busybox && chroot . /bin/busybox --install -s /bin && "
      "echo root:x:0:0::/:/bin/sh > etc/passwd && ln -s / escape && "
      "ln -s ../../../../outside dangling",
      dir_, kBusybox));
  constexpr std::array kTools{
      std::pair{"ext4", "mke2fs -q -t ext4 -d {0}/share/rootfs {0}/ext4 16M"},
      std::pair{"erofs", "mkfs.erofs {0}/erofs {0}/share/rootfs"}};
  for (const auto& [type, tool] : kTools) {
    if (made && RunScript(fmt::format(fmt::runtime(tool), dir_) + " > /dev/null 2>&1")) {
      disks_.emplace_back(type);
    }
  }
  return made;
}

std::vector<std::string> Guest::CommandLine() const {
  std::vector<std::string> argv{
      kQemu, "-M", "q35,accel=tcg,hpet=off,smbus=off,sata=off,vmport=off,usb=off", "-cpu", "max",
      "-bios", "qboot.rom", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
      "-m", "768", "-smp", EnvOr("BULKHEAD_TEST_CPUS", "1"), "-kernel", Kernel(), "-initrd",
      dir_ + "/initrd", "-append",
      "console=ttyS0 quiet panic=-1 reboot=t " + EnvOr("BULKHEAD_TEST_APPEND", ""), "-serial",
      "file:" + dir_ + "/console", "-device", "virtio-serial-pci", "-chardev",
      "socket,id=c,path=" + dir_ + "/sock,server=on,wait=off", "-device",
      "virtserialport,chardev=c,name=agent", "-fsdev",
      "local,id=fs,path=" + dir_ + "/share,security_model=none", "-device",
      "virtio-9p-pci,fsdev=fs,mount_tag=share",
      // One in a network of QEMU's own that leads nowhere, and one without a cable.
      "-netdev", "user,id=net,restrict=on", "-device",
      "virtio-net-pci,netdev=net,mac=52:54:00:00:00:01,romfile=", "-device",
      "virtio-net-pci,mac=52:54:00:00:00:02,romfile="};
  for (const std::string& disk : disks_) {
    argv.insert(argv.end(),
                {"-drive", fmt::format("if=none,id={0},format=raw,file={1}/{0}", disk, dir_),
                 "-device", fmt::format("virtio-blk-pci,drive={0},serial={0}", disk)});
  }
  return argv;
}

bool Guest::Boot() {
  char name[] = "/tmp/agent-vm-XXXXXX";
  dir_ = ::mkdtemp(name);
  if (!MakeFiles()) {
    return false;
  }
  SpawnOptions options;
  options.argv = CommandLine();
  started_ = steady_clock::now();
  auto child = Child::Spawn(options);
  if (!child) {
    std::cerr << child.error().message() << "\n";
    return false;
  }
  qemu_ = std::move(*child);
  for (int i = 0; i < 1000; ++i) {
    if (auto fd = sys::ConnectUnix(dir_ + "/sock")) {
      channel_ = rpc::ChannelFromFd(std::move(*fd));
      stub_ = wire::Agent::NewStub(channel_);
      return true;
    }
    std::this_thread::sleep_for(milliseconds(2));
  }
  return false;
}

void Guest::Reconnect() {
  stub_.reset();
  channel_.reset();
  std::this_thread::sleep_for(milliseconds(300));
  channel_ = rpc::ChannelFromFd(std::move(*sys::ConnectUnix(dir_ + "/sock")));
  stub_ = wire::Agent::NewStub(channel_);
}

Guest::~Guest() {
  qemu_.reset();
  if (!dir_.empty()) {
    static_cast<void>(sys::RemoveAll(dir_));
  }
}

std::string Guest::Console() const { return sys::ReadFile(dir_ + "/console").value_or(""); }

oci::Spec AgentVm::BaseSpec(std::vector<std::string> args) {
  oci::Spec spec;
  spec.root.path = "/share/rootfs";
  spec.hostname = "box";
  spec.process.emplace();
  spec.process->args = std::move(args);
  spec.process->env = {"PATH=/bin:/usr/bin", "A=b"};
  const std::vector<std::string> capabilities{"CAP_CHOWN", "CAP_SETUID", "CAP_SETGID",
                                              "CAP_KILL",  "CAP_MKNOD",  "CAP_DAC_OVERRIDE"};
  spec.process->capabilities = {capabilities, capabilities, {}, capabilities, {}};
  spec.process->rlimits = {{"RLIMIT_NOFILE", 1000, 2000}};
  for (const char* type : {"pid", "mount", "ipc", "uts", "cgroup", "network"}) {
    spec.linux_.namespaces.push_back({type, ""});
  }
  spec.mounts = {
      {"/proc", "proc", "proc", {"nosuid", "noexec", "nodev"}},
      {"/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}},
      {"/dev/pts",
       "devpts",
       "devpts",
       {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
      {"/dev/shm", "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777"}},
      {"/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}},
      {"/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", "ro"}},
      {"/sys/fs/cgroup", "cgroup", "cgroup", {"nosuid", "noexec", "nodev", "relatime", "ro"}},
      {"/data", "bind", "/share", {"rbind", "ro"}},
  };
  spec.linux_.masked_paths = {"/proc/kcore", "/proc/keys", "/sys/firmware"};
  spec.linux_.readonly_paths = {"/proc/sys", "/proc/sysrq-trigger"};
  spec.linux_.resources.devices = {{false, "a", {}, {}, "rwm"}};
  return spec;
}

void AgentVm::SetUpTestSuite() {
  if (!Guest::Possible()) {
    return;
  }
  guest_ = new Guest;
  ASSERT_TRUE(guest_->Boot());
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
  wire::ConfigureSandboxRequest request;
  request.set_hostname("pod");
  request.set_wall_clock_ns(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                std::chrono::system_clock::now().time_since_epoch())
                                .count());
  request.set_entropy(std::string(64, 'x'));
  auto& share = *request.add_shares();
  share.set_transport(wire::Share::NINE_P);
  share.set_tag("share");
  share.set_mount_point("/share");
  wire::ConfigureSandboxResponse response;
  const auto status = guest_->stub().ConfigureSandbox(&context, request, &response);
  ASSERT_TRUE(status.ok()) << Text(status) << "\n" << guest_->Console();
  std::cout << "exec to configured " << MillisecondsSince(guest_->started())
            << " ms; kernel to agent " << response.boot_to_agent_us() / 1000 << " ms, to ready "
            << response.boot_to_ready_us() / 1000 << " ms; " << response.kernel_release() << "\n";
}

void AgentVm::TearDownTestSuite() {
  if (guest_ != nullptr &&
      (::testing::Test::HasFailure() || !EnvOr("BULKHEAD_TEST_APPEND", "").empty())) {
    std::cout << guest_->Console();
  }
  delete guest_;
  guest_ = nullptr;
}

void AgentVm::SetUp() {
  if (guest_ == nullptr) {
    GTEST_SKIP() << "no kernel, QEMU or busybox";
  }
}

wire::ProcessRef AgentVm::Ref(const std::string& id, const std::string& exec) {
  wire::ProcessRef ref;
  ref.set_container_id(id);
  ref.set_exec_id(exec);
  return ref;
}

grpc::Status AgentVm::Create(const std::string& id, const oci::Spec& spec, bool with_stdin,
                             const std::vector<wire::Drive>& drives) {
  grpc::ClientContext context;
  wire::CreateContainerRequest request;
  request.set_container_id(id);
  request.set_spec(oci::SpecToJson(spec));
  request.set_stdin(with_stdin);
  request.mutable_drives()->Add(drives.begin(), drives.end());
  wire::CreateProcessResponse response;
  return guest_->stub().CreateContainer(&context, request, &response);
}

grpc::Status AgentVm::Exec(const std::string& id, const std::string& exec,
                           const oci::Process& process) {
  grpc::ClientContext context;
  wire::ExecProcessRequest request;
  request.set_container_id(id);
  request.set_exec_id(exec);
  request.set_process(oci::ProcessToJson(process));
  wire::CreateProcessResponse response;
  return guest_->stub().ExecProcess(&context, request, &response);
}

grpc::Status AgentVm::Start(const wire::ProcessRef& ref) {
  grpc::ClientContext context;
  wire::Empty empty;
  return guest_->stub().StartProcess(&context, ref, &empty);
}

grpc::Status AgentVm::Delete(const wire::ProcessRef& ref) {
  grpc::ClientContext context;
  wire::Empty empty;
  return guest_->stub().DeleteProcess(&context, ref, &empty);
}

grpc::Status AgentVm::Signal(const wire::ProcessRef& ref, int signal, bool all) {
  grpc::ClientContext context;
  wire::SignalProcessRequest request;
  *request.mutable_process() = ref;
  request.set_signal(signal);
  request.set_all(all);
  wire::Empty empty;
  return guest_->stub().SignalProcess(&context, request, &empty);
}

wire::ExitStatus AgentVm::Wait(const wire::ProcessRef& ref) {
  grpc::ClientContext context;
  wire::ExitStatus exit;
  const auto status = guest_->stub().WaitProcess(&context, ref, &exit);
  EXPECT_TRUE(status.ok()) << Text(status);
  return exit;
}

Outcome AgentVm::Communicate(const wire::ProcessRef& ref, std::string input, bool keep) {
  Outcome outcome;
  grpc::ClientContext context;
  auto stream = guest_->stub().Stdio(&context);
  wire::StdioInput open;
  *open.mutable_open() = ref;
  open.set_stdout_credit(kWindow);
  open.set_stderr_credit(kWindow);
  stream->Write(open);
  wire::StdioOutput output;
  size_t credit = 0;
  bool sent_eof = false;
  std::array<uint32_t, 3> owed{};
  while (stream->Read(&output)) {
    auto& text = output.stream() == wire::STDERR ? outcome.err : outcome.out;
    outcome.out_bytes += output.data().size();
    ++outcome.messages;
    if (keep) {
      text += output.data();
    }
    owed[output.stream()] += static_cast<uint32_t>(output.data().size());
    credit += output.stdin_credit();
    wire::StdioInput answer;
    const size_t part = std::min(credit, input.size());
    if (part > 0 || (input.empty() && !sent_eof && output.stdin_credit() > 0)) {
      answer.set_data(input.substr(0, part));
      input.erase(0, part);
      credit -= part;
      answer.set_stdin_eof(input.empty());
      sent_eof = input.empty();
    }
    if (owed[1] > kWindow / 4 || owed[2] > kWindow / 4) {
      answer.set_stdout_credit(std::exchange(owed[1], 0));
      answer.set_stderr_credit(std::exchange(owed[2], 0));
    }
    if (answer.ByteSizeLong() > 0) {
      stream->Write(answer);
    }
  }
  outcome.status = stream->Finish();
  outcome.exit = Wait(ref);
  return outcome;
}

Outcome AgentVm::RunSpec(const std::string& id, const oci::Spec& spec, const std::string& input,
                         bool with_stdin, bool keep) {
  Outcome outcome;
  outcome.status = Create(id, spec, with_stdin);
  if (!outcome.status.ok()) {
    outcome.err = Text(outcome.status);
    return outcome;
  }
  const auto started = Start(Ref(id));
  if (!started.ok()) {
    outcome.status = started;
    outcome.err = Text(started);
  } else {
    outcome = Communicate(Ref(id), input, keep);
  }
  const auto deleted = Delete(Ref(id));
  EXPECT_TRUE(deleted.ok()) << Text(deleted);
  return outcome;
}

std::string AgentVm::ExecShell(const std::string& id, const std::string& exec,
                               const std::string& script) {
  const auto made = Exec(id, exec, *ShellSpec(script).process);
  if (!made.ok()) {
    return Text(made);
  }
  const auto started = Start(Ref(id, exec));
  EXPECT_TRUE(started.ok()) << Text(started);
  const auto outcome = Communicate(Ref(id, exec));
  EXPECT_TRUE(Delete(Ref(id, exec)).ok());
  return outcome.out + outcome.err;
}

}  // namespace bulkhead::agent
