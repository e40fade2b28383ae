// Containers and their processes in a real guest.
#include <sys/stat.h>

#include <fstream>
#include <iostream>

#include "agent/guest_test.h"

namespace bulkhead::agent {
namespace {

using std::chrono::steady_clock;
using ::testing::HasSubstr;

TEST_F(AgentVm, RunsAndReports) {
  const auto begin = steady_clock::now();
  const auto result = Shell("a1", "echo out; echo err >&2; exit 7");
  std::cout << "create to delete " << MillisecondsSince(begin) << " ms\n";
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
  EXPECT_THAT(result.out, HasSubstr("notty\n/"));
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
  std::cout << "3 MB of stdin " << MillisecondsSince(begin) << " ms\n";
}

TEST_F(AgentVm, PassesMuchOutput) {
  const auto megabytes = std::atoi(EnvOr("BULKHEAD_TEST_MB", "64").c_str());
  const auto begin = steady_clock::now();
  const auto result =
      RunSpec("g1", BaseSpec({"dd", "if=/dev/zero", "bs=1M", "count=" + std::to_string(megabytes)}),
              "", false, false);
  EXPECT_GE(result.out_bytes, static_cast<size_t>(megabytes) << 20U) << result.err;
  const auto time = MillisecondsSince(begin);
  std::cout << megabytes << " MiB of stdout " << time << " ms, "
            << megabytes * 1000 / std::max<int64_t>(1, time) << " MiB/s\n";
}

TEST_F(AgentVm, LimitsHold) {
  oci::Spec spec = BaseSpec({"sh", "-c", "tail /dev/zero"});
  spec.linux_.resources.memory.limit = 16 << 20;
  spec.linux_.resources.memory.swap = 16 << 20;
  spec.linux_.resources.pids_limit = 20;
  spec.linux_.resources.cpu = {512, 50000, 100000, "0", "", {}, {}};
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
  EXPECT_THAT(RunSpec("m1", spec).err,
              HasSubstr("invalid-argument: linux.namespaces: user: root (0) is not mapped"));
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
  std::cout << "shutdown " << MillisecondsSince(begin) << " ms\n";
}

}  // namespace
}  // namespace bulkhead::agent
