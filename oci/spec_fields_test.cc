// Single fields of config.json: what is taken, what is refused, and how that is said.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "oci/mount_options.h"
#include "oci/spec.h"

namespace bulkhead::oci {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Result<Spec> ParseLinux(const std::string& section) {
  return ParseSpec(R"({"ociVersion":"1.2.0","root":{"path":"/"},"linux":)" + section + "}");
}

Result<Spec> ParseWith(const std::string& members) {
  return ParseSpec(R"({"ociVersion":"1.2.0","root":{"path":"/"},)" + members + "}");
}

Result<Process> WithProcess(const std::string& members) {
  return ParseProcess(R"({"args":["a"],"cwd":"/",)" + members + "}");
}

std::string Told(const auto& result) { return result ? "no error" : result.error().message(); }

TEST(SpecFields, Scheduler) {
  const auto process = WithProcess(
      R"("scheduler":{"policy":"SCHED_DEADLINE","flags":["SCHED_FLAG_RESET_ON_FORK"],
          "runtime":1000000,"deadline":2000000,"period":3000000})");
  ASSERT_TRUE(process) << Told(process);
  const auto again = ParseProcess(ProcessToJson(*process));
  EXPECT_EQ(again->scheduler->policy, "SCHED_DEADLINE");
  EXPECT_THAT(again->scheduler->flags, ElementsAre("SCHED_FLAG_RESET_ON_FORK"));
  EXPECT_EQ(again->scheduler->runtime, 1000000U);
  EXPECT_EQ(again->scheduler->deadline, 2000000U);
  EXPECT_EQ(again->scheduler->period, 3000000U);
  const auto nice = WithProcess(R"("scheduler":{"policy":"SCHED_BATCH","nice":-20})");
  EXPECT_EQ(ParseProcess(ProcessToJson(*nice))->scheduler->nice, -20);
  const auto priority = WithProcess(R"("scheduler":{"policy":"SCHED_RR","priority":99})");
  EXPECT_EQ(ParseProcess(ProcessToJson(*priority))->scheduler->priority, 99);
}

TEST(SpecFields, SchedulerRefusesWhatRuncRefuses) {
  const auto told = [](const std::string& members) {
    return Told(WithProcess(R"("scheduler":{)" + members + "}"));
  };
  EXPECT_THAT(told(R"("nice":1)"), HasSubstr("scheduler.policy: missing"));
  EXPECT_THAT(told(R"("policy":"SCHED_FOO")"), HasSubstr("scheduler.policy"));
  EXPECT_THAT(told(R"("policy":"SCHED_ISO")"), HasSubstr("SCHED_ISO"));
  EXPECT_THAT(told(R"("policy":"SCHED_OTHER","nice":20)"), HasSubstr("scheduler.nice"));
  EXPECT_THAT(told(R"("policy":"SCHED_OTHER","priority":1)"), HasSubstr("scheduler.priority"));
  EXPECT_THAT(told(R"("policy":"SCHED_FIFO","period":1)"), HasSubstr("SCHED_DEADLINE alone"));
  EXPECT_THAT(told(R"("policy":"SCHED_FIFO","flags":["X"])"), HasSubstr("scheduler.flags"));
}

TEST(SpecFields, IoPriority) {
  const auto process = WithProcess(R"("ioPriority":{"class":"IOPRIO_CLASS_RT","priority":7})");
  ASSERT_TRUE(process) << Told(process);
  EXPECT_EQ(ParseProcess(ProcessToJson(*process))->io_priority->io_class, "IOPRIO_CLASS_RT");
  EXPECT_EQ(ParseProcess(ProcessToJson(*process))->io_priority->priority, 7);
  EXPECT_THAT(Told(WithProcess(R"("ioPriority":{"class":"IOPRIO_CLASS_RT","priority":8})")),
              HasSubstr("ioPriority.priority"));
  EXPECT_THAT(Told(WithProcess(R"("ioPriority":{"class":"X"})")), HasSubstr("ioPriority.class"));
}

TEST(SpecFields, ExecCpuAffinity) {
  const auto process = WithProcess(R"("execCPUAffinity":{"initial":"0-1","final":"1"})");
  ASSERT_TRUE(process) << Told(process);
  EXPECT_EQ(ParseProcess(ProcessToJson(*process))->exec_cpu_affinity->initial, "0-1");
  EXPECT_EQ(ParseProcess(ProcessToJson(*process))->exec_cpu_affinity->final_, "1");
  EXPECT_THAT(Told(WithProcess(R"("execCPUAffinity":{"initial":"x"})")),
              HasSubstr("execCPUAffinity.initial"));
  EXPECT_THAT(Told(WithProcess(R"("execCPUAffinity":{"final":"2-1"})")),
              HasSubstr("execCPUAffinity.final"));
}

TEST(SpecFields, RlimitsAreNamedOnce) {
  const std::string core = R"({"type":"RLIMIT_CORE","soft":1,"hard":2})";
  EXPECT_THAT(Told(WithProcess(R"("rlimits":[)" + core + "," + core + "]")),
              HasSubstr("rlimits: RLIMIT_CORE"));
}

// What a JSON schema of the specification asks for; test_schema.py has all of it.
TEST(SpecFields, WhatMustBeThere) {
  EXPECT_THAT(Told(WithProcess(R"("rlimits":[{"type":"RLIMIT_CORE","hard":1}])")),
              HasSubstr("rlimits[0].soft: missing"));
  EXPECT_THAT(Told(WithProcess(R"("rlimits":[{"type":"CORE","soft":1,"hard":1}])")),
              HasSubstr("rlimits[0].type"));
  EXPECT_THAT(Told(WithProcess(R"("consoleSize":{"width":1})")), HasSubstr("height: missing"));
  EXPECT_THAT(Told(ParseResources(R"({"devices":[{"access":"r"}]})")), HasSubstr("allow: missing"));
  for (const char* size : {"64kB", "MB", "02MB", "2TB"}) {
    EXPECT_THAT(Told(ParseResources(
                    fmt::format(R"({{"hugepageLimits":[{{"pageSize":"{}","limit":0}}]}})", size))),
                HasSubstr("hugepageLimits[0].pageSize"));
  }
  EXPECT_THAT(Told(ParseWith(R"("linux":{"namespaces":[{"type":"net"}]})")),
              HasSubstr("namespaces[0].type: unknown type \"net\""));
  EXPECT_THAT(Told(ParseWith(R"("linux":{"uidMappings":[{"hostID":0,"size":1}]})")),
              HasSubstr("uidMappings[0].containerID: missing"));
  EXPECT_THAT(Told(ParseWith(R"("linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[)"
                             R"({"names":[],"action":"SCMP_ACT_ALLOW"}]}})")),
              HasSubstr("syscalls[0].names: needs"));
}

TEST(SpecFields, UnknownCapabilitiesAreIgnoredWithAWarning) {
  const auto spec = ParseWith(
      R"("process":{"args":["a"],"cwd":"/","capabilities":{"bounding":["CAP_KILL","CAP_FUTURE"]}})");
  ASSERT_TRUE(spec) << Told(spec);
  EXPECT_THAT(spec->process->capabilities->bounding, ElementsAre("CAP_KILL"));
  ASSERT_EQ(spec->warnings.size(), 1U);
  EXPECT_THAT(spec->warnings[0], HasSubstr("process.capabilities.bounding"));
  EXPECT_THAT(spec->warnings[0], HasSubstr("CAP_FUTURE"));
}

TEST(SpecFields, WarningsOfAnExecAndOfAnUpdate) {
  std::vector<std::string> warnings;
  ASSERT_TRUE(
      ParseProcess(R"({"args":["a"],"cwd":"/","capabilities":{"ambient":["CAP_X"]}})", &warnings));
  ASSERT_TRUE(ParseResources(R"({"memory":{"swappiness":1}})", &warnings));
  EXPECT_THAT(warnings, ElementsAre(HasSubstr("capabilities.ambient"),
                                    HasSubstr("memory.swappiness: has no effect")));
}

TEST(SpecFields, LabelsHaveNoEffectButAForm) {
  const auto spec = ParseWith(
      R"("process":{"args":["a"],"cwd":"/","apparmorProfile":"p","selinuxLabel":"l",
                    "user":{"username":"u"}},"linux":{"mountLabel":"m"})");
  ASSERT_TRUE(spec) << Told(spec);
  EXPECT_THAT(spec->warnings, IsEmpty());  // engines write them everywhere
  EXPECT_THAT(Told(WithProcess(R"("apparmorProfile":1)")), HasSubstr("apparmorProfile: expected"));
  EXPECT_THAT(Told(WithProcess(R"("selinuxLabel":[])")), HasSubstr("selinuxLabel: expected"));
  EXPECT_THAT(Told(WithProcess(R"("user":{"username":1})")), HasSubstr("user.username: expected"));
  EXPECT_THAT(Told(ParseLinux(R"({"mountLabel":1})")), HasSubstr("linux.mountLabel: expected"));
}

TEST(SpecFields, WindowsCommandLine) {
  const auto spec = ParseWith(R"("process":{"args":["a"],"cwd":"/","commandLine":"x"})");
  ASSERT_TRUE(spec) << Told(spec);
  ASSERT_EQ(spec->warnings.size(), 1U);
  EXPECT_THAT(spec->warnings[0], HasSubstr("process.commandLine: has no effect"));
}

TEST(SpecFields, Personality) {
  const auto spec = ParseLinux(R"({"personality":{"domain":"LINUX32"}})");
  ASSERT_TRUE(spec) << Told(spec);
  EXPECT_EQ(ParseSpec(SpecToJson(*spec))->linux_.personality, "LINUX32");
  EXPECT_THAT(Told(ParseLinux(R"({"personality":{"domain":"BSD"}})")),
              HasSubstr("linux.personality.domain"));
  EXPECT_THAT(Told(ParseLinux(R"({"personality":{}})")), HasSubstr("domain: missing"));
  EXPECT_THAT(Told(ParseLinux(R"({"personality":{"domain":"LINUX","flags":["X"]}})")),
              HasSubstr("linux.personality.flags"));
}

TEST(SpecFields, TimeOffsets) {
  const auto spec =
      ParseLinux(R"({"timeOffsets":{"monotonic":{"secs":-5,"nanosecs":7},"boottime":{"secs":9}}})");
  ASSERT_TRUE(spec) << Told(spec);
  const auto again = ParseSpec(SpecToJson(*spec));
  EXPECT_EQ(again->linux_.time_offsets.at("monotonic").secs, -5);
  EXPECT_EQ(again->linux_.time_offsets.at("monotonic").nanosecs, 7U);
  EXPECT_EQ(again->linux_.time_offsets.at("boottime").secs, 9);
  EXPECT_THAT(Told(ParseLinux(R"({"timeOffsets":{"realtime":{"secs":1}}})")),
              HasSubstr("\"realtime\""));
  EXPECT_THAT(Told(ParseLinux(R"({"timeOffsets":{"boottime":{"nanosecs":1000000000}}})")),
              HasSubstr("[\"boottime\"].nanosecs"));
}

TEST(SpecFields, RootfsPropagation) {
  EXPECT_TRUE(ParseLinux(R"({"rootfsPropagation":"rslave"})"));
  EXPECT_THAT(Told(ParseLinux(R"({"rootfsPropagation":"far"})")),
              HasSubstr("linux.rootfsPropagation"));
}

TEST(SpecFields, CpuBurstAndIdle) {
  const auto spec = ParseLinux(R"({"resources":{"cpu":{"burst":0,"idle":1}}})");
  ASSERT_TRUE(spec) << Told(spec);
  const auto again = ParseSpec(SpecToJson(*spec));
  EXPECT_EQ(again->linux_.resources.cpu.burst, 0U);
  EXPECT_EQ(again->linux_.resources.cpu.idle, 1);
  EXPECT_THAT(Told(ParseLinux(R"({"resources":{"cpu":{"idle":2}}})")), HasSubstr("cpu.idle"));
  EXPECT_THAT(Told(ParseLinux(R"({"resources":{"cpu":{"idle":1,"shares":2}}})")),
              HasSubstr("cpu.shares"));
}

TEST(SpecFields, RealtimeCpuIsRefused) {
  EXPECT_THAT(Told(ParseLinux(R"({"resources":{"cpu":{"realtimeRuntime":1}}})")),
              HasSubstr("cpu.realtimeRuntime"));
  EXPECT_THAT(Told(ParseLinux(R"({"resources":{"cpu":{"realtimePeriod":1}}})")),
              HasSubstr("cpu.realtimePeriod"));
  EXPECT_TRUE(ParseLinux(R"({"resources":{"cpu":{"realtimeRuntime":0,"realtimePeriod":0}}})"));
}

TEST(SpecFields, MemoryOfCgroupV1) {
  const auto spec = ParseLinux(
      R"({"resources":{"memory":{"kernel":5,"kernelTCP":6,"swappiness":60,"useHierarchy":true,
                                 "disableOOMKiller":false,"checkBeforeUpdate":true}}})");
  ASSERT_TRUE(spec) << Told(spec);
  EXPECT_EQ(spec->warnings.size(), 3U);
  EXPECT_TRUE(ParseSpec(SpecToJson(*spec))->linux_.resources.memory.check_before_update);
  EXPECT_THAT(Told(ParseLinux(R"({"resources":{"memory":{"disableOOMKiller":true}}})")),
              HasSubstr("memory.disableOOMKiller"));
  EXPECT_THAT(Told(ParseLinux(R"({"resources":{"memory":{"swappiness":"x"}}})")),
              HasSubstr("memory.swappiness: expected"));
}

TEST(SpecFields, BlockIo) {
  const auto resources = ParseResources(
      R"({"blockIO":{"weight":10,"weightDevice":[{"major":8,"minor":1,"weight":1000}],
          "throttleReadBpsDevice":[{"major":8,"minor":2,"rate":1}],
          "throttleWriteBpsDevice":[{"major":8,"minor":3,"rate":2}],
          "throttleReadIOPSDevice":[{"major":8,"minor":4,"rate":3}],
          "throttleWriteIOPSDevice":[{"major":8,"minor":5,"rate":18446744073709551615}]}})");
  ASSERT_TRUE(resources) << Told(resources);
  const auto io = ParseResources(ResourcesToJson(*resources))->block_io;
  EXPECT_EQ(io.weight, 10);
  EXPECT_EQ(io.weight_devices.at(0).weight, 1000);
  EXPECT_EQ(io.read_bps.at(0).minor, 2);
  EXPECT_EQ(io.write_bps.at(0).minor, 3);
  EXPECT_EQ(io.read_iops.at(0).minor, 4);
  EXPECT_EQ(io.write_iops.at(0).rate, ~0ULL);
}

TEST(SpecFields, BlockIoRefusesNonsense) {
  const auto told = [](const std::string& members) {
    return Told(ParseResources(R"({"blockIO":{)" + members + "}}"));
  };
  EXPECT_THAT(told(R"("weight":9)"), HasSubstr("blockIO.weight"));
  EXPECT_THAT(told(R"("weight":1001)"), HasSubstr("blockIO.weight"));
  EXPECT_THAT(told(R"("leafWeight":10)"), HasSubstr("blockIO.leafWeight"));
  EXPECT_THAT(told(R"("weightDevice":[{"major":8,"minor":0,"weight":10,"leafWeight":10}])"),
              HasSubstr("weightDevice[0].leafWeight"));
  EXPECT_THAT(told(R"("weightDevice":[{"major":8,"minor":0}])"), HasSubstr("weight: missing"));
  EXPECT_THAT(told(R"("throttleReadBpsDevice":[{"major":8,"rate":0}])"),
              HasSubstr("throttleReadBpsDevice[0].minor: missing"));
}

TEST(SpecFields, SeccompWords) {
  const auto told = [](const std::string& members) {
    return Told(ParseLinux(R"({"seccomp":{)" + members + "}}"));
  };
  const std::string allow = R"("defaultAction":"SCMP_ACT_ALLOW",)";
  EXPECT_THAT(told(R"("defaultAction":"SCMP_ACT_FOO")"), HasSubstr("seccomp.defaultAction"));
  EXPECT_THAT(told(R"("defaultAction":"SCMP_ACT_ALLOW","defaultErrnoRet":1)"),
              HasSubstr("seccomp.defaultErrnoRet"));
  EXPECT_THAT(told(allow + R"("architectures":["SCMP_ARCH_FOO"])"), HasSubstr("architectures"));
  EXPECT_THAT(told(allow + R"("flags":["FOO"])"), HasSubstr("seccomp.flags"));
  const auto call = [&](const std::string& members) {
    return told(allow + R"("syscalls":[{"names":["read"],)" + members + "}]");
  };
  EXPECT_THAT(call(R"("action":"FOO")"), HasSubstr("syscalls[0].action"));
  EXPECT_THAT(call(R"("action":"SCMP_ACT_LOG","errnoRet":1)"), HasSubstr("syscalls[0].errnoRet"));
  EXPECT_THAT(call(R"("action":"SCMP_ACT_LOG","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}])"),
              HasSubstr("args[0].index"));
  EXPECT_THAT(call(R"("action":"SCMP_ACT_LOG","args":[{"index":0,"value":0,"op":"FOO"}])"),
              HasSubstr("args[0].op"));
}

TEST(SpecFields, SeccompNotificationIsRefused) {
  for (const char* members : {R"("defaultAction":"SCMP_ACT_NOTIFY")",
                              R"("defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/x")",
                              R"("defaultAction":"SCMP_ACT_ALLOW","listenerMetadata":"x")",
                              R"("defaultAction":"SCMP_ACT_ALLOW",
           "syscalls":[{"names":["mount"],"action":"SCMP_ACT_NOTIFY"}])"}) {
    const auto spec = ParseLinux(fmt::format("{{\"seccomp\":{{{}}}}}", members));
    ASSERT_FALSE(spec) << members;
    EXPECT_EQ(spec.error().code(), ErrorCode::kUnimplemented);
    EXPECT_THAT(spec.error().message(), HasSubstr("seccomp notification"));
  }
}

TEST(SpecFields, MappingsOfMounts) {
  const auto spec = ParseWith(
      R"("mounts":[{"destination":"/a","uidMappings":[{"containerID":1,"hostID":2,"size":3}],
                    "gidMappings":[{"containerID":4,"hostID":5,"size":6}]}])");
  ASSERT_TRUE(spec) << Told(spec);
  EXPECT_EQ(spec->mounts.at(0).uid_mappings.at(0).host_id, 2U);
  EXPECT_EQ(spec->mounts.at(0).gid_mappings.at(0).size, 6U);
}

TEST(SpecFields, WhatAGuestCannotGiveIsRefused) {
  const auto refused = [](const Result<Spec>& spec, const char* field) {
    ASSERT_FALSE(spec) << field;
    EXPECT_EQ(spec.error().code(), ErrorCode::kUnimplemented);
    EXPECT_THAT(spec.error().message(), HasSubstr(field));
  };
  refused(ParseLinux(R"({"intelRdt":{"closID":"x"}})"), "linux.intelRdt");
  refused(ParseLinux(R"({"netDevices":{"eth0":{"name":"x"}}})"), "linux.netDevices");
  refused(ParseLinux(R"({"memoryPolicy":{"mode":"MPOL_BIND"}})"), "linux.memoryPolicy");
  refused(ParseLinux(R"({"resources":{"network":{"classID":1}}})"), "resources.network");
  refused(ParseLinux(R"({"resources":{"network":{"priorities":[{"name":"x","priority":1}]}}})"),
          "resources.network");
  refused(ParseLinux(R"({"resources":{"rdma":{"mlx":{"hcaHandles":1}}}})"), "resources.rdma");
  for (const std::string section : {"windows", "solaris", "zos", "freebsd", "vm"}) {
    refused(ParseWith(fmt::format(R"("{}":{{"x":["y"]}})", section)), section.c_str());
  }
}

}  // namespace
}  // namespace bulkhead::oci
