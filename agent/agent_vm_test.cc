// The agent in a real guest: boots QEMU (TCG will do) with the built kernel and an initramfs that
// holds nothing but the agent. Skipped when the kernel, QEMU or busybox is missing.
#include <agent.grpc.pb.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <thread>

#include "base/child.h"
#include "base/sys.h"
#include "oci/spec.h"
#include "rpc/channel.h"
#include "rpc/status.h"

namespace bulkhead::agent {
namespace {

namespace wire = ::bulkhead::agent::v1;
using std::chrono::duration_cast;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using ::testing::HasSubstr;

constexpr uint32_t kWindow = 4U << 20U;

std::string EnvOr(const char* name, const char* fallback) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : fallback;
}

// What a process wrote and how it ended.
struct Outcome {
  std::string out;
  std::string err;
  size_t out_bytes = 0;
  wire::ExitStatus exit;
  grpc::Status status;
};

class Guest {
 public:
  static constexpr char kBusybox[] = "/bin/busybox";

  static bool Possible() {
    return sys::Exists(Kernel()) && sys::Exists(Qemu()) && sys::Exists(kBusybox);
  }
  static std::string Kernel() {
    return EnvOr("BULKHEAD_TEST_KERNEL", BULKHEAD_SOURCE_DIR "/build/kernel/vmlinux");
  }
  static std::string Qemu() { return "/usr/bin/qemu-system-x86_64"; }

  bool Boot() {
    char name[] = "/tmp/agent-vm-XXXXXX";
    dir_ = ::mkdtemp(name);
    const std::string share = dir_ + "/share";
    const std::string script = fmt::format(
        "mkdir -p {0}/i {1}/rootfs/bin {1}/rootfs/etc && cp " BULKHEAD_AGENT
        " {0}/i/init && "
        "cd {0}/i && echo init | cpio -o -H newc --quiet > {0}/initrd && "
        "cp {2} {1}/rootfs/bin/busybox && chroot {1}/rootfs /bin/busybox --install -s /bin && "
        "echo root:x:0:0::/:/bin/sh > {1}/rootfs/etc/passwd && "
        "ln -s / {1}/rootfs/escape && ln -s ../../../../outside {1}/rootfs/dangling",
        dir_, share, kBusybox);
    if (std::system(script.c_str()) != 0) {
      return false;
    }
    const std::string socket = dir_ + "/sock";
    SpawnOptions options;
    options.argv = {Qemu(),
                    "-M",
                    "q35,accel=tcg,hpet=off,smbus=off,sata=off,vmport=off,usb=off",
                    "-cpu",
                    "max",
                    "-bios",
                    "qboot.rom",
                    "-nodefaults",
                    "-no-user-config",
                    "-display",
                    "none",
                    "-no-reboot",
                    "-m",
                    "768",
                    "-kernel",
                    Kernel(),
                    "-initrd",
                    dir_ + "/initrd",
                    "-append",
                    "console=ttyS0 quiet panic=-1 reboot=t " + EnvOr("BULKHEAD_TEST_APPEND", ""),
                    "-serial",
                    "file:" + dir_ + "/console",
                    "-device",
                    "virtio-serial-pci",
                    "-chardev",
                    "socket,id=c,path=" + socket + ",server=on,wait=off",
                    "-device",
                    "virtserialport,chardev=c,name=agent",
                    "-fsdev",
                    "local,id=fs,path=" + share + ",security_model=none",
                    "-device",
                    "virtio-9p-pci,fsdev=fs,mount_tag=share"};
    started_ = steady_clock::now();
    auto child = Child::Spawn(options);
    if (!child) {
      std::cerr << child.error().message() << "\n";
      return false;
    }
    qemu_ = std::move(*child);
    for (int i = 0; i < 1000; ++i) {
      if (auto fd = sys::ConnectUnix(socket)) {
        channel_ = rpc::ChannelFromFd(std::move(*fd));
        stub_ = wire::Agent::NewStub(channel_);
        return true;
      }
      std::this_thread::sleep_for(milliseconds(2));
    }
    return false;
  }
  void Reconnect() {
    stub_.reset();
    channel_.reset();
    std::this_thread::sleep_for(milliseconds(300));
    channel_ = rpc::ChannelFromFd(std::move(*sys::ConnectUnix(dir_ + "/sock")));
    stub_ = wire::Agent::NewStub(channel_);
  }
  ~Guest() {
    qemu_.reset();
    if (!dir_.empty()) {
      static_cast<void>(sys::RemoveAll(dir_));
    }
  }

  wire::Agent::Stub& stub() { return *stub_; }
  Child& qemu() { return *qemu_; }
  steady_clock::time_point started() const { return started_; }
  std::string Console() { return sys::ReadFile(dir_ + "/console").value_or(""); }
  const std::string& dir() const { return dir_; }

 private:
  std::string dir_;
  std::optional<Child> qemu_;
  steady_clock::time_point started_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<wire::Agent::Stub> stub_;
};

std::string Text(const grpc::Status& status) {
  return status.ok() ? "ok" : status.error_details() + ": " + status.error_message();
}

oci::Spec BaseSpec(std::vector<std::string> args) {
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

class AgentVm : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
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
    const auto now = steady_clock::now();
    ASSERT_TRUE(status.ok()) << Text(status) << "\n" << guest_->Console();
    std::cout << "exec to configured "
              << duration_cast<milliseconds>(now - guest_->started()).count()
              << " ms; kernel to agent " << response.boot_to_agent_us() / 1000 << " ms, to ready "
              << response.boot_to_ready_us() / 1000 << " ms; " << response.kernel_release() << "\n";
  }
  static void TearDownTestSuite() {
    if (guest_ != nullptr &&
        (::testing::Test::HasFailure() || !EnvOr("BULKHEAD_TEST_APPEND", "").empty())) {
      std::cout << guest_->Console();
    }
    delete guest_;
    guest_ = nullptr;
  }
  void SetUp() override {
    if (guest_ == nullptr) {
      GTEST_SKIP() << "no kernel, QEMU or busybox";
    }
  }

  static wire::ProcessRef Ref(const std::string& id, const std::string& exec = "") {
    wire::ProcessRef ref;
    ref.set_container_id(id);
    ref.set_exec_id(exec);
    return ref;
  }

  grpc::Status Create(const std::string& id, const oci::Spec& spec, bool with_stdin = false) {
    grpc::ClientContext context;
    wire::CreateContainerRequest request;
    request.set_container_id(id);
    request.set_spec(oci::SpecToJson(spec));
    request.set_stdin(with_stdin);
    wire::CreateProcessResponse response;
    return guest_->stub().CreateContainer(&context, request, &response);
  }

  grpc::Status Exec(const std::string& id, const std::string& exec, const oci::Process& process) {
    grpc::ClientContext context;
    wire::ExecProcessRequest request;
    request.set_container_id(id);
    request.set_exec_id(exec);
    request.set_process(oci::ProcessToJson(process));
    wire::CreateProcessResponse response;
    return guest_->stub().ExecProcess(&context, request, &response);
  }

  grpc::Status Start(const wire::ProcessRef& ref) {
    grpc::ClientContext context;
    wire::Empty empty;
    return guest_->stub().StartProcess(&context, ref, &empty);
  }
  grpc::Status Delete(const wire::ProcessRef& ref) {
    grpc::ClientContext context;
    wire::Empty empty;
    return guest_->stub().DeleteProcess(&context, ref, &empty);
  }
  grpc::Status Signal(const wire::ProcessRef& ref, int signal, bool all = false) {
    grpc::ClientContext context;
    wire::SignalProcessRequest request;
    *request.mutable_process() = ref;
    request.set_signal(signal);
    request.set_all(all);
    wire::Empty empty;
    return guest_->stub().SignalProcess(&context, request, &empty);
  }
  wire::ExitStatus Wait(const wire::ProcessRef& ref) {
    grpc::ClientContext context;
    wire::ExitStatus exit;
    const auto status = guest_->stub().WaitProcess(&context, ref, &exit);
    EXPECT_TRUE(status.ok()) << Text(status);
    return exit;
  }

  // Stdio to the end, then the exit status. `input` is sent as credit permits.
  Outcome Communicate(const wire::ProcessRef& ref, std::string input = "", bool keep = true) {
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

  Outcome RunSpec(const std::string& id, const oci::Spec& spec, const std::string& input = "",
                  bool with_stdin = false, bool keep = true) {
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
  Outcome Shell(const std::string& id, const std::string& script) {
    return RunSpec(id, BaseSpec({"sh", "-c", script}));
  }

  static inline Guest* guest_ = nullptr;
};

TEST_F(AgentVm, RunsAndReports) {
  const auto begin = steady_clock::now();
  const auto result = Shell("a1", "echo out; echo err >&2; exit 7");
  std::cout << "create to delete "
            << duration_cast<milliseconds>(steady_clock::now() - begin).count() << " ms\n";
  EXPECT_EQ(result.out, "out\n") << result.err;
  EXPECT_EQ(result.err, "err\n");
  EXPECT_EQ(result.exit.exit_code(), 7);
  EXPECT_TRUE(result.status.ok()) << Text(result.status);
}

TEST_F(AgentVm, SetsUpTheContainer) {
  const auto result = Shell(
      "a2",
      "hostname; echo $$; ls /dev | tr '\\n' ' '; echo; id -u; ulimit -n; grep CapEff "
      "/proc/self/status; cat /proc/self/cgroup; touch /data/x 2>&1; touch /proc/sys/a 2>&1; "
      "cat /proc/kcore | wc -c; ls /sys/firmware | wc -l; head -c 4 /dev/zero | wc -c; "
      "mount | wc -l; ls / | tr '\\n' ' '; cat /proc/1/comm; test -t 0 || echo notty; echo $HOME");
  EXPECT_THAT(result.out, HasSubstr("box\n1\n")) << result.err;
  EXPECT_THAT(result.out, HasSubstr("fd full mqueue null ptmx pts random shm stderr stdin"));
  EXPECT_THAT(result.out, HasSubstr("\n0\n1000\n"));
  EXPECT_THAT(result.out, HasSubstr("CapEff:\t00000000080000e3\n0::/\n"));
  EXPECT_THAT(result.out, HasSubstr("/data/x: Read-only file system"));
  EXPECT_THAT(result.out, HasSubstr("\n0\n0\n4\n"));
  EXPECT_THAT(result.out, HasSubstr("notty\n/root"));
}

TEST_F(AgentVm, NamesCommandsThatCannotRun) {
  EXPECT_EQ(RunSpec("b1", BaseSpec({"nope"})).err,
            "command-not-found: exec: \"nope\": executable file not found in $PATH");
  EXPECT_EQ(RunSpec("b2", BaseSpec({"/x/nope"})).err,
            "command-not-found: exec: \"/x/nope\": no such file or directory");
  EXPECT_EQ(RunSpec("b3", BaseSpec({"/etc/passwd"})).err,
            "command-not-runnable: exec: \"/etc/passwd\": permission denied");
  std::ofstream(guest_->dir() + "/share/rootfs/bin/bad") << "#!/no/such\n";
  ::chmod((guest_->dir() + "/share/rootfs/bin/bad").c_str(), 0755);
  EXPECT_EQ(RunSpec("b4", BaseSpec({"bad"})).err,
            "command-not-found: exec: \"bad\": no such file or directory");
  // What failed left nothing behind: the names are free again.
  EXPECT_EQ(RunSpec("b1", BaseSpec({"true"})).exit.exit_code(), 0);
}

TEST_F(AgentVm, ExecJoinsTheContainer) {
  ASSERT_TRUE(Create("c1", BaseSpec({"sleep", "1000"})).ok());
  ASSERT_TRUE(Start(Ref("c1")).ok());
  oci::Process process =
      *BaseSpec({"sh", "-c", "echo $$; hostname; cat /proc/1/comm; cat /proc/self/cgroup; exit 3"})
           .process;
  const auto made = Exec("c1", "e1", process);
  ASSERT_TRUE(made.ok()) << Text(made);
  ASSERT_TRUE(Start(Ref("c1", "e1")).ok());
  const auto result = Communicate(Ref("c1", "e1"));
  EXPECT_THAT(result.out, HasSubstr("\nbox\nsleep\n0::/\n"));
  EXPECT_EQ(result.exit.exit_code(), 3);
  EXPECT_TRUE(Delete(Ref("c1", "e1")).ok());
  process.args = {"nope"};
  EXPECT_THAT(Text(Exec("c1", "e2", process)), HasSubstr("command-not-found"));
  grpc::ClientContext context;
  wire::ListProcessesResponse list;
  ASSERT_TRUE(guest_->stub().ListProcesses(&context, Ref("c1"), &list).ok());
  ASSERT_EQ(list.processes_size(), 1);
  EXPECT_EQ(list.processes(0).command(), "sleep 1000");
  EXPECT_EQ(list.processes(0).container_pid(), 1);
  EXPECT_THAT(Text(Delete(Ref("c1"))), HasSubstr("failed-precondition"));
  EXPECT_TRUE(Signal(Ref("c1"), 9).ok());
  const auto exit = Wait(Ref("c1"));
  EXPECT_EQ(exit.exit_code(), 137);
  EXPECT_EQ(exit.signal(), 9);
  EXPECT_FALSE(exit.oom_killed());
  EXPECT_THAT(Text(Exec("c1", "e3", process)), HasSubstr("failed-precondition"));
  EXPECT_TRUE(Delete(Ref("c1")).ok());
}

TEST_F(AgentVm, GivesATerminal) {
  oci::Spec spec =
      BaseSpec({"sh", "-c",
                "tty; stty size; test -t 1 && echo yes; ls -l /dev/console; read x; echo got $x"});
  spec.process->terminal = true;
  spec.process->console_size = oci::ConsoleSize{33, 101};
  const auto result = RunSpec("d1", spec, "hello\n", true);
  EXPECT_THAT(result.out, HasSubstr("/dev/pts/0\r\n33 101\r\nyes\r\n")) << result.err;
  EXPECT_THAT(result.out, HasSubstr("got hello\r\n"));
}

TEST_F(AgentVm, PassesStdin) {
  const std::string input(3'000'000, 'q');
  const auto begin = steady_clock::now();
  const auto result = RunSpec("f1", BaseSpec({"wc", "-c"}), input, true);
  EXPECT_EQ(result.out, "3000000\n") << result.err;
  std::cout << "3 MB of stdin " << duration_cast<milliseconds>(steady_clock::now() - begin).count()
            << " ms\n";
}

TEST_F(AgentVm, PassesMuchOutput) {
  const auto megabytes = std::atoi(EnvOr("BULKHEAD_TEST_MB", "64").c_str());
  const auto begin = steady_clock::now();
  const auto result =
      RunSpec("g1", BaseSpec({"dd", "if=/dev/zero", "bs=1M", "count=" + std::to_string(megabytes)}),
              "", false, false);
  EXPECT_GE(result.out_bytes, static_cast<size_t>(megabytes) << 20U) << result.err;
  const auto time = duration_cast<milliseconds>(steady_clock::now() - begin).count();
  std::cout << megabytes << " MiB of stdout " << time << " ms, "
            << megabytes * 1000 / std::max<int64_t>(1, time) << " MiB/s\n";
}

TEST_F(AgentVm, LimitsHold) {
  oci::Spec spec = BaseSpec({"sh", "-c", "tail /dev/zero"});
  spec.linux_.resources.memory.limit = 16 << 20;
  spec.linux_.resources.memory.swap = 16 << 20;
  spec.linux_.resources.pids_limit = 20;
  spec.linux_.resources.cpu = {512, 50000, 100000, "0", ""};
  auto result = RunSpec("h1", spec);
  EXPECT_EQ(result.exit.exit_code(), 137) << result.err;
  EXPECT_TRUE(result.exit.oom_killed());
  spec.process->args = {
      "sh", "-c", "cd /sys/fs/cgroup; cat memory.max pids.max cpu.max cpu.weight cpuset.cpus"};
  result = RunSpec("h1", spec);
  EXPECT_EQ(result.out, "16777216\n20\n50000 100000\n20\n0\n") << result.err;
}

TEST_F(AgentVm, DevicesAreFiltered) {
  const auto result = Shell("i1",
                            "mknod /dev/kmsg2 c 1 11 && cat /dev/kmsg2 2>&1 | head -c 100; "
                            "echo x > /dev/null && echo fine");
  EXPECT_THAT(result.out, HasSubstr("Operation not permitted"));
  EXPECT_THAT(result.out, HasSubstr("fine"));
}

TEST_F(AgentVm, LinksInTheImageStayInside) {
  oci::Spec spec = BaseSpec({"sh", "-c", "ls -d /outside /tmpx; ls /outside"});
  spec.mounts.push_back({"/dangling", "bind", "/share/rootfs/etc", {"bind"}});
  spec.mounts.push_back({"/escape/tmpx", "tmpfs", "tmpfs", {}});
  const auto result = RunSpec("j1", spec);
  EXPECT_EQ(result.out, "/outside\n/tmpx\npasswd\n") << result.err;
}

TEST_F(AgentVm, UserSeccompAndNewPrivileges) {
  oci::Spec spec = BaseSpec(
      {"sh", "-c",
       "id; mkdir /tmp2 2>&1; grep -E 'Seccomp:|NoNewPrivs|CapPrm' /proc/self/status; umask; pwd"});
  spec.process->user = {1000, 1001, 077, {5, 6}};
  spec.process->cwd = "/work/dir";
  spec.process->no_new_privileges = true;
  spec.linux_.seccomp = oci::Seccomp{"SCMP_ACT_ALLOW",
                                     {},
                                     {"SCMP_ARCH_X86_64"},
                                     {},
                                     {{{"mkdir", "mkdirat"}, "SCMP_ACT_ERRNO", 38, {}}}};
  const auto result = RunSpec("k1", spec);
  EXPECT_THAT(result.out, HasSubstr("uid=1000 gid=1001 groups=5,6")) << result.err;
  EXPECT_THAT(result.out, HasSubstr("Function not implemented"));
  EXPECT_THAT(result.out, HasSubstr("NoNewPrivs:\t1\nSeccomp:\t2\n"));
  EXPECT_THAT(result.out, HasSubstr("CapPrm:\t0000000000000000"));
  EXPECT_THAT(result.out, HasSubstr("0077\n/work/dir\n"));
}

TEST_F(AgentVm, SurvivesALostConnection) {
  ASSERT_TRUE(Create("l1", BaseSpec({"sh", "-c", "echo one; sleep 1; echo two; exit 4"})).ok());
  ASSERT_TRUE(Start(Ref("l1")).ok());
  guest_->Reconnect();
  const auto result = Communicate(Ref("l1"));
  EXPECT_EQ(result.out, "one\ntwo\n");
  EXPECT_EQ(result.exit.exit_code(), 4);
  EXPECT_TRUE(Delete(Ref("l1")).ok());
}

TEST_F(AgentVm, RefusesClearly) {
  oci::Spec spec = BaseSpec({"true"});
  spec.linux_.namespaces.push_back({"user", ""});
  EXPECT_THAT(RunSpec("m1", spec).err, HasSubstr("unimplemented: linux.namespaces: user"));
  spec = BaseSpec({"true"});
  spec.root.path = "/nowhere";
  EXPECT_THAT(RunSpec("m1", spec).err, HasSubstr("not-found: root.path: mount /nowhere"));
  EXPECT_THAT(RunSpec("../x", BaseSpec({"true"})).err, HasSubstr("invalid-argument"));
  EXPECT_THAT(Text(Start(Ref("zzz"))), HasSubstr("not-found: no container zzz"));
}

TEST_F(AgentVm, ZShutsDown) {
  grpc::ClientContext context;
  wire::Empty empty;
  const auto begin = steady_clock::now();
  EXPECT_TRUE(guest_->stub().Shutdown(&context, empty, &empty).ok());
  const auto exit = guest_->qemu().Wait(std::chrono::seconds(20));
  ASSERT_TRUE(exit && *exit) << "QEMU still runs";
  EXPECT_EQ((*exit)->ShellCode(), 0);
  std::cout << "shutdown " << duration_cast<milliseconds>(steady_clock::now() - begin).count()
            << " ms\n";
}

}  // namespace
}  // namespace bulkhead::agent

// Ends without destructors: gRPC's threads still run, and in a static program they race exit().
int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  const int result = RUN_ALL_TESTS();
  std::fflush(nullptr);
  ::_exit(result);
}
