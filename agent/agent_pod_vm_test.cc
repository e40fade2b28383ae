// What is asked of a container while it runs, and what containers of a pod share, in a real guest.
#include <signal.h>

#include <iostream>
#include <iterator>
#include <sstream>
#include <thread>

#include "agent/guest_test.h"

namespace bulkhead::agent {
namespace {

using std::chrono::steady_clock;
using ::testing::HasSubstr;
using ::testing::Not;

class AgentPodVm : public AgentVm {
 protected:
  static wire::ContainerRef Container(const std::string& id) {
    wire::ContainerRef ref;
    ref.set_container_id(id);
    return ref;
  }
  grpc::Status Pause(const std::string& id) {
    grpc::ClientContext context;
    wire::Empty empty;
    return guest_->stub().PauseContainer(&context, Container(id), &empty);
  }
  grpc::Status Resume(const std::string& id) {
    grpc::ClientContext context;
    wire::Empty empty;
    return guest_->stub().ResumeContainer(&context, Container(id), &empty);
  }
  grpc::Status Update(const std::string& id, const std::string& resources) {
    grpc::ClientContext context;
    wire::UpdateContainerRequest request;
    request.set_container_id(id);
    request.set_resources(resources);
    wire::Empty empty;
    return guest_->stub().UpdateContainer(&context, request, &empty);
  }
  wire::ContainerStatsResponse Stats(const std::string& id) {
    grpc::ClientContext context;
    wire::ContainerStatsResponse stats;
    const auto status = guest_->stub().ContainerStats(&context, Container(id), &stats);
    EXPECT_TRUE(status.ok()) << Text(status);
    return stats;
  }
  std::string Processes(const std::string& id) {
    grpc::ClientContext context;
    wire::ListProcessesResponse list;
    EXPECT_TRUE(guest_->stub().ListProcesses(&context, Ref(id), &list).ok());
    std::string text;
    for (const auto& entry : list.processes()) {
      text += entry.command() + "\n";
    }
    return text;
  }
  void Launch(const std::string& id, const oci::Spec& spec) {
    const auto created = Create(id, spec);
    ASSERT_TRUE(created.ok()) << Text(created);
    const auto started = Start(Ref(id));
    ASSERT_TRUE(started.ok()) << Text(started);
  }
  wire::ExitStatus KillAndDelete(const std::string& id) {
    EXPECT_TRUE(Signal(Ref(id), SIGKILL).ok());
    const auto exit = Wait(Ref(id));
    const auto deleted = Delete(Ref(id));
    EXPECT_TRUE(deleted.ok()) << Text(deleted);
    return exit;
  }
  // To look at the guest's init it takes all that this one may do.
  static void AllowPtrace(oci::Spec& spec) {
    for (auto* set : {&spec.process->capabilities->bounding, &spec.process->capabilities->effective,
                      &spec.process->capabilities->permitted}) {
      set->emplace_back("CAP_SYS_PTRACE");
    }
  }
  static oci::Spec WithPids(oci::Spec spec, const std::string& path) {
    std::erase_if(spec.linux_.namespaces, [](const auto& entry) { return entry.type == "pid"; });
    if (path != "guest") {
      spec.linux_.namespaces.push_back({"pid", path});
    }
    return spec;
  }
};

TEST_F(AgentPodVm, PausesAndResumes) {
  Launch("p1", ShellSpec("while true; do echo x; sleep 0.01; done > /tick"));
  const auto ticks = [&] { return Stats("p1").cpu().at("usage_usec"); };
  ASSERT_TRUE(Pause("p1").ok());
  EXPECT_TRUE(Pause("p1").ok());
  const auto before = ticks();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_EQ(ticks(), before);
  EXPECT_EQ(Text(Exec("p1", "e", *ShellSpec("true").process)),
            "failed-precondition: container p1 is paused");
  ASSERT_TRUE(Resume("p1").ok());
  EXPECT_TRUE(Resume("p1").ok());
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_GT(ticks(), before);
  EXPECT_EQ(ExecShell("p1", "e", "echo fine"), "fine\n");
  ASSERT_TRUE(Pause("p1").ok());
  EXPECT_EQ(KillAndDelete("p1").exit_code(), 137);
  EXPECT_THAT(Text(Pause("p1")), HasSubstr("not-found"));
}

TEST_F(AgentPodVm, WhatIsPausedBeforeItsStartStaysSo) {
  ASSERT_TRUE(Create("p2", ShellSpec("exit 3")).ok());
  ASSERT_TRUE(Pause("p2").ok());
  EXPECT_THAT(Text(Start(Ref("p2"))), HasSubstr("is paused"));
  ASSERT_TRUE(Resume("p2").ok());
  ASSERT_TRUE(Start(Ref("p2")).ok());
  EXPECT_EQ(Wait(Ref("p2")).exit_code(), 3);
  EXPECT_THAT(Text(Pause("p2")), HasSubstr("failed-precondition"));
  EXPECT_TRUE(Delete(Ref("p2")).ok());
}

TEST_F(AgentPodVm, UpdatesAndReports) {
  oci::Spec spec = BaseSpec({"sleep", "1000"});
  spec.linux_.resources.memory.limit = 64 << 20;
  spec.linux_.resources.pids_limit = 20;
  spec.linux_.resources.cpu.period = 50000;
  Launch("u1", spec);
  auto stats = Stats("u1");
  // Its time is counted when it first sleeps.
  for (int i = 0; i < 100 && stats.cpu().at("usage_usec") == 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    stats = Stats("u1");
  }
  EXPECT_EQ(stats.memory_max(), 64U << 20U);
  EXPECT_EQ(stats.pids_max(), 20U);
  EXPECT_EQ(stats.pids_current(), 1U);
  EXPECT_GT(stats.memory_current(), 0U);
  EXPECT_GE(stats.memory_peak(), stats.memory_current() / 2);
  EXPECT_GT(stats.cpu().at("usage_usec"), 0U);
  EXPECT_TRUE(stats.memory().contains("anon"));
  EXPECT_EQ(stats.memory_events().at("oom_kill"), 0U);
  EXPECT_FALSE(stats.hugetlb().empty());
  ASSERT_TRUE(Update("u1", R"({"memory": {"limit": 33554432}})").ok());
  const auto updated = Update("u1", R"({"pids": {"limit": -1}, "cpu": {"quota": 20000},
                       "devices": [{"allow": true, "access": "rwm"}]})");
  EXPECT_TRUE(updated.ok()) << Text(updated);
  stats = Stats("u1");
  EXPECT_EQ(stats.memory_max(), 32U << 20U);
  EXPECT_EQ(stats.pids_max(), ~uint64_t{0});
  EXPECT_EQ(
      ExecShell("u1", "e", "cat /sys/fs/cgroup/cpu.max; mknod /dev/k c 1 11 && cat /dev/k 2>&1"),
      "20000 50000\ncat: can't open '/dev/k': Operation not permitted\n");
  EXPECT_THAT(Text(Update("u1", R"({"memory": {"swap": 1}})")), HasSubstr("below the memory"));
  EXPECT_THAT(Text(Update("u1", "[]")), HasSubstr("invalid-argument: linux.resources"));
  KillAndDelete("u1");
}

TEST_F(AgentPodVm, TellsOfTheOomKiller) {
  grpc::ClientContext first_context;
  auto first = guest_->stub().Events(&first_context, {});
  first->WaitForInitialMetadata();
  grpc::ClientContext context;
  auto events = guest_->stub().Events(&context, {});
  events->WaitForInitialMetadata();
  wire::Event event;
  EXPECT_FALSE(first->Read(&event));  // the second has taken its place
  EXPECT_EQ(first->Finish().error_code(), grpc::ABORTED);

  // The killed one is not init: nobody but the kernel knows.
  oci::Spec spec = ShellSpec("(tail /dev/zero); sleep 1000");
  spec.linux_.resources.memory.limit = 16 << 20;
  spec.linux_.resources.memory.swap = 16 << 20;
  Launch("o1", spec);
  ASSERT_TRUE(events->Read(&event));
  EXPECT_EQ(event.container_id(), "o1");
  EXPECT_EQ(event.kind(), wire::Event::OOM);
  EXPECT_EQ(Stats("o1").memory_events().at("oom_kill"), 1U);
  KillAndDelete("o1");

  spec.process->args = {"tail", "/dev/zero"};
  Launch("o2", spec);
  ASSERT_TRUE(events->Read(&event));
  EXPECT_EQ(event.container_id(), "o2");
  EXPECT_TRUE(Wait(Ref("o2")).oom_killed());
  EXPECT_TRUE(Delete(Ref("o2")).ok());

  context.TryCancel();
  EXPECT_FALSE(events->Read(&event));
  EXPECT_EQ(events->Finish().error_code(), grpc::CANCELLED);
  grpc::ClientContext last_context;
  auto last = guest_->stub().Events(&last_context, {});
  last->WaitForInitialMetadata();
  Launch("o3", spec);
  ASSERT_TRUE(last->Read(&event));
  EXPECT_EQ(event.container_id(), "o3");
  Wait(Ref("o3"));
  EXPECT_TRUE(Delete(Ref("o3")).ok());
}

TEST_F(AgentPodVm, ContainersShareThePodsPids) {
  // Its init leaves an orphan, which the pod's init has to reap.
  Launch("s1", WithPids(ShellSpec("(sleep 0.1 &); sleep 1001"), "pod"));
  Launch("s2", WithPids(ShellSpec("sleep 1002 & sleep 1003"), "pod"));
  const std::string seen = ExecShell("s2", "e", "ps -o pid,args; cat /proc/1/comm; echo $$");
  EXPECT_THAT(seen, HasSubstr("sleep 1001"));
  EXPECT_THAT(seen, HasSubstr("sleep 1002"));
  EXPECT_THAT(seen, HasSubstr("bulkhead-pod\n"));
  EXPECT_EQ(ExecShell("s2", "e2", "ls /proc/1/root 2>/dev/null | wc -l"), "0\n");
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  EXPECT_THAT(ExecShell("s1", "e", "ps -o stat,args"), Not(HasSubstr("Z ")));
  EXPECT_THAT(Processes("s1"), Not(HasSubstr("1002")));

  // Only its own go with a container, and all of them with its init.
  KillAndDelete("s2");
  const std::string left = ExecShell("s1", "e2", "ps -o args");
  EXPECT_THAT(left, HasSubstr("sleep 1001"));
  EXPECT_THAT(left, Not(HasSubstr("sleep 1002")));

  Launch("s3", WithPids(ShellSpec("ps -o args; sleep 1004"), "container:s1"));
  EXPECT_THAT(ExecShell("s3", "e", "ps -o args"), HasSubstr("sleep 1001"));
  KillAndDelete("s3");
  KillAndDelete("s1");
}

TEST_F(AgentPodVm, JoinsThePidsOfAContainer) {
  Launch("j1", ShellSpec("sleep 1001 & wait"));
  Launch("j2", WithPids(ShellSpec("sleep 1002"), "container:j1"));
  EXPECT_THAT(ExecShell("j2", "e", "ps -o pid,args"), HasSubstr("1 sh -c sleep 1001"));
  EXPECT_THAT(ExecShell("j1", "e", "ps -o args"), HasSubstr("sleep 1002"));
  KillAndDelete("j1");  // and what is in its pid namespace
  EXPECT_EQ(Wait(Ref("j2")).exit_code(), 137);
  EXPECT_TRUE(Delete(Ref("j2")).ok());
  EXPECT_THAT(Text(Create("j2", WithPids(ShellSpec("true"), "container:j1"))),
              HasSubstr("no container j1"));
}

TEST_F(AgentPodVm, ThePodsPidsStartAfreshWhenTheirInitHasDied) {
  Launch("f1", WithPids(ShellSpec("sleep 1001"), "pod"));
  const std::string find =
      "for f in /proc/[0-9]*/comm; do read c < $f; [ $c = bulkhead-pod ] && "
      "echo ${f%/comm} | tr -dc 0-9; done 2>/dev/null";
  const std::string pod_init = RunSpec("f2", WithPids(ShellSpec(find), "guest")).out;
  ASSERT_FALSE(pod_init.empty());
  EXPECT_EQ(RunSpec("f2", WithPids(ShellSpec("kill -9 " + pod_init), "guest")).exit.exit_code(), 0);
  EXPECT_EQ(Wait(Ref("f1")).exit_code(), 137);
  EXPECT_TRUE(Delete(Ref("f1")).ok());
  const auto result = RunSpec("f1", WithPids(ShellSpec("cat /proc/1/comm; ps | wc -l"), "pod"));
  EXPECT_THAT(result.out, HasSubstr("bulkhead-pod\n")) << result.err;
}

TEST_F(AgentPodVm, UsesTheGuestsNamespacesWhenNoneIsListed) {
  oci::Spec spec = ShellSpec(
      "hostname; for p in 1 self; do for n in uts ipc pid net; do readlink /proc/$p/ns/$n; done; "
      "done; "
      "cat /proc/sys/kernel/shmmni /proc/sys/net/ipv4/ip_default_ttl; "
      "touch /dev/mqueue/shared && echo queue; touch /dev/shm/x && echo shm; sleep 1001 & exit 5");
  std::erase_if(spec.linux_.namespaces,
                [](const auto& entry) { return entry.type != "mount" && entry.type != "cgroup"; });
  spec.linux_.sysctl = {{"kernel.shmmni", "4000"}, {"net.ipv4.ip_default_ttl", "63"}};
  AllowPtrace(spec);
  ASSERT_TRUE(Create("n1", spec).ok());
  ASSERT_TRUE(Start(Ref("n1")).ok());
  const auto result = Communicate(Ref("n1"));  // ends, for what init left behind is killed
  EXPECT_EQ(result.exit.exit_code(), 5);
  // They end after the news of their init.
  for (int i = 0; i < 500 && !Processes("n1").empty(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(Processes("n1"), "");
  EXPECT_TRUE(Delete(Ref("n1")).ok());
  EXPECT_THAT(result.out, HasSubstr("pod\n")) << result.err;
  EXPECT_THAT(result.out, HasSubstr("4000\n63\nqueue\nshm\n"));
  std::istringstream lines(result.out);
  std::vector<std::string> words{std::istream_iterator<std::string>(lines), {}};
  ASSERT_GE(words.size(), 9U) << result.out << result.err;
  for (size_t i = 1; i <= 4; ++i) {
    EXPECT_EQ(words[i], words[i + 4]);
  }
  // A queue of the guest's namespace is there for the next.
  spec = BaseSpec({"ls", "/dev/mqueue"});
  std::erase_if(spec.linux_.namespaces, [](const auto& entry) { return entry.type == "ipc"; });
  EXPECT_EQ(RunSpec("n2", spec).out, "shared\n");
  EXPECT_EQ(RunSpec("n2", BaseSpec({"ls", "/dev/mqueue"})).out, "");
}

TEST_F(AgentPodVm, SetsSysctlsForThePodsContainers) {
  const auto set = [this](const std::string& name, const std::string& value) {
    grpc::ClientContext context;
    wire::SetSysctlsRequest request;
    wire::Empty empty;
    (*request.mutable_sysctls())[name] = value;
    return guest_->stub().SetSysctls(&context, request, &empty);
  };
  EXPECT_TRUE(set("kernel.shm_rmid_forced", "1").ok());
  EXPECT_TRUE(set("fs/mqueue/msg_max", "100").ok());
  EXPECT_TRUE(set("net.ipv4.ping_group_range", "0 2147483647").ok());
  oci::Spec spec = ShellSpec(
      "cd /proc/sys; cat kernel/shm_rmid_forced fs/mqueue/msg_max net/ipv4/ping_group_range");
  std::erase_if(spec.linux_.namespaces,
                [](const auto& entry) { return entry.type == "ipc" || entry.type == "network"; });
  const auto result = RunSpec("s1", spec);
  EXPECT_EQ(result.out, "1\n100\n0\t2147483647\n") << result.err;
  EXPECT_THAT(set("net.no.such", "1").error_message(), HasSubstr("/proc/sys/net/no/such"));
  EXPECT_THAT(set("net.ipv4/../../x", "1").error_message(), HasSubstr("is no name"));
}

TEST_F(AgentPodVm, MountsDrives) {
  if (guest_->disks().empty()) {
    GTEST_SKIP() << "no mke2fs and no mkfs.erofs";
  }
  const auto make = [](const std::string& disk, const std::string& options = "") {
    wire::Drive drive;
    drive.set_serial(disk);
    drive.set_filesystem(disk);
    drive.set_mount_point("/run/drives/" + disk);
    if (!options.empty()) {
      drive.add_options(options);
    }
    return drive;
  };
  for (const std::string& disk : guest_->disks()) {
    oci::Spec spec = ShellSpec("grep ' / ' /proc/mounts; touch /new && ls /new");
    spec.root.path = "/run/drives/" + disk;
    for (int round = 0; round < 2; ++round) {
      const auto created = Create("d1", spec, false, {make(disk, "noatime")});
      ASSERT_TRUE(created.ok()) << Text(created);
      ASSERT_TRUE(Start(Ref("d1")).ok());
      const auto result = Communicate(Ref("d1"));
      EXPECT_THAT(result.out, HasSubstr(" " + disk + " ")) << result.err;
      if (disk == "erofs") {
        EXPECT_THAT(result.err, HasSubstr("Read-only file system"));
      } else {
        EXPECT_THAT(result.out, HasSubstr("/new\n"));
      }
      EXPECT_TRUE(Delete(Ref("d1")).ok());
    }
    // A failed create unmounts, too; the next one finds all as it was.
    spec.process->args = {"nope"};
    EXPECT_THAT(Text(Create("d1", spec, false, {make(disk)})), HasSubstr("command-not-found"));
    oci::Spec look = WithPids(BaseSpec({"cat", "/proc/1/mounts"}), "guest");
    AllowPtrace(look);
    const auto mounts = RunSpec("d2", look);
    EXPECT_THAT(mounts.out, HasSubstr(" /share 9p "));
    EXPECT_THAT(mounts.out, Not(HasSubstr("/run/drives")));
  }
  wire::Drive bad = make(guest_->disks()[0]);
  bad.set_filesystem("nonsense");
  EXPECT_THAT(Text(Create("d2", BaseSpec({"true"}), false, {bad})), HasSubstr("drive \""));
}

TEST_F(AgentPodVm, SmallPiecesGoTogether) {
  constexpr int kMegabytes = 8;
  const auto begin = steady_clock::now();
  const auto result = RunSpec(
      "t1", BaseSpec({"dd", "if=/dev/zero", "bs=1k", "count=" + std::to_string(kMegabytes * 1024)}),
      "", false, false);
  EXPECT_GE(result.out_bytes, static_cast<size_t>(kMegabytes) << 20U);
  const auto time = std::max<int64_t>(1, MillisecondsSince(begin));
  std::cout << kMegabytes << " MiB of stdout in pieces of 1 KiB: " << time << " ms, "
            << kMegabytes * 1000 / time << " MiB/s, " << result.messages << " messages\n";
}

TEST_F(AgentPodVm, LinesGoTogether) {
  const auto begin = steady_clock::now();
  const auto result = Shell("t2", "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done");
  EXPECT_THAT(result.out, HasSubstr("line 0\nline 1\n"));
  EXPECT_THAT(result.out, HasSubstr("line 19999\n"));
  EXPECT_LT(result.messages, 4000U);
  std::cout << "20000 lines: " << MillisecondsSince(begin) << " ms, " << result.messages
            << " messages\n";
}

TEST_F(AgentPodVm, ZShutsDownWithDrivesAndASharedNamespace) {
  std::vector<wire::Drive> drives;
  for (const std::string& disk : guest_->disks()) {
    wire::Drive& drive = drives.emplace_back();
    drive.set_serial(disk);
    drive.set_filesystem(disk);
    drive.set_mount_point("/run/drives/" + disk);
  }
  ASSERT_TRUE(Create("z1", WithPids(BaseSpec({"sleep", "1000"}), "pod"), false, drives).ok());
  ASSERT_TRUE(Start(Ref("z1")).ok());
  ASSERT_TRUE(Pause("z1").ok());
  grpc::ClientContext context;
  wire::Empty empty;
  EXPECT_TRUE(guest_->stub().Shutdown(&context, empty, &empty).ok());
  const auto exit = guest_->qemu().Wait(std::chrono::seconds(20));
  ASSERT_TRUE(exit && *exit) << "QEMU still runs";
  EXPECT_EQ((*exit)->ShellCode(), 0);
}

}  // namespace
}  // namespace bulkhead::agent
