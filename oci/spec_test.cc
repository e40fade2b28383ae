#include "oci/spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bulkhead::oci {
namespace {

using ::testing::HasSubstr;

constexpr std::string_view kFull = R"({
  "ociVersion": "1.0.2", "unknown": {"x": [1]},
  "root": {"path": "/r", "readonly": true},
  "process": {
    "terminal": true, "consoleSize": {"height": 25, "width": 80},
    "user": {"uid": 1, "gid": 2, "umask": 18, "additionalGids": [3, 4]},
    "args": ["sh", "-c", "x"], "env": ["A=b"], "cwd": "/w",
    "capabilities": {"bounding": ["CAP_CHOWN"], "ambient": null},
    "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 18446744073709551615}],
    "noNewPrivileges": true, "oomScoreAdj": -5, "apparmorProfile": "p", "selinuxLabel": "l"},
  "hostname": "h", "domainname": "d",
  "mounts": [{"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]}],
  "annotations": {"a": "b"}, "hooks": {"prestart": []},
  "linux": {
    "namespaces": [{"type": "pid"}, {"type": "network", "path": "/n"}],
    "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
    "devices": [{"type": "c", "path": "/dev/x", "major": 1, "minor": 3, "fileMode": 438,
                 "uid": 0, "gid": 5}],
    "cgroupsPath": "/c",
    "resources": {
      "devices": [{"allow": false, "access": "rwm"},
                  {"allow": true, "type": "c", "major": 1, "minor": -1, "access": "r"}],
      "cpu": {"shares": 512, "quota": -1, "period": 100000, "cpus": "0-1", "mems": "0"},
      "memory": {"limit": 1048576, "reservation": 4096, "swap": -1, "swappiness": null},
      "pids": {"limit": 10}, "hugepageLimits": [{"pageSize": "2MB", "limit": 0}], "blockIO": {"weight": 0}, "unified": {"memory.high": "1"}},
    "seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
      "architectures": ["SCMP_ARCH_X86_64"], "flags": ["SECCOMP_FILTER_FLAG_LOG"],
      "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW",
                    "args": [{"index": 0, "value": 18446744073709551615, "valueTwo": 2,
                              "op": "SCMP_CMP_EQ"}]}]},
    "sysctl": {"net.core.somaxconn": "10"}, "rootfsPropagation": "slave",
    "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"]}})";

std::string ErrorOf(std::string_view json) {
  const auto spec = ParseSpec(json);
  return spec ? "no error" : spec.error().message();
}

TEST(Spec, ParsesEveryField) {
  const auto spec = ParseSpec(kFull);
  ASSERT_TRUE(spec) << spec.error().message();
  EXPECT_TRUE(spec->root.readonly);
  EXPECT_EQ(spec->process->rlimits[0].hard, ~0ULL);
  EXPECT_EQ(spec->process->user.additional_gids, (std::vector<uint32_t>{3, 4}));
  EXPECT_EQ(spec->process->oom_score_adj, -5);
  EXPECT_EQ(spec->linux_.resources.devices[0].type, "a");
  EXPECT_EQ(spec->linux_.resources.devices[1].minor, -1);
  EXPECT_EQ(spec->linux_.resources.pids_limit, 10);
  ASSERT_EQ(spec->linux_.resources.hugepage_limits.size(), 1U);
  EXPECT_EQ(spec->linux_.resources.hugepage_limits[0].page_size, "2MB");
  EXPECT_EQ(spec->linux_.seccomp->rules[0].args[0].value, ~0ULL);
  EXPECT_EQ(spec->linux_.sysctl.at("net.core.somaxconn"), "10");
}

TEST(Spec, RoundTrips) {
  const auto spec = ParseSpec(kFull);
  ASSERT_TRUE(spec);
  const std::string once = SpecToJson(*spec);
  const auto again = ParseSpec(once);
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_EQ(SpecToJson(*again), once);
  const auto process = ParseProcess(ProcessToJson(*spec->process));
  ASSERT_TRUE(process) << process.error().message();
  EXPECT_EQ(ProcessToJson(*process), ProcessToJson(*spec->process));
}

TEST(Spec, NamesTheFieldThatIsWrong) {
  const std::string head = R"({"ociVersion":"1.0.2","root":{"path":"/"},)";
  const auto with = [&](std::string_view rest) { return ErrorOf(head + std::string(rest) + "}"); };
  EXPECT_EQ(with(R"("process":{"user":{"uid":"x"},"args":["a"],"cwd":"/"})"),
            "config.json: process.user.uid: expected a whole number");
  EXPECT_THAT(with(R"("process":{"user":{"uid":-1},"args":["a"],"cwd":"/"})"),
              HasSubstr("process.user.uid: number out of range"));
  EXPECT_THAT(with(R"("process":{"args":[],"cwd":"/"})"), HasSubstr("process.args: needs"));
  EXPECT_THAT(with(R"("process":{"args":["a"],"cwd":"x"})"), HasSubstr("process.cwd: must"));
  EXPECT_THAT(with(R"("process":{"args":["a\u0000b"],"cwd":"/"})"), HasSubstr("args[0]: contains"));
  EXPECT_THAT(with(R"("mounts":[{"destination":"/a"},{"type":"x"}])"),
              HasSubstr("mounts[1].destination: missing"));
  EXPECT_THAT(with(R"("mounts":{})"), HasSubstr("mounts: expected an array"));
  EXPECT_THAT(with(R"("linux":{"sysctl":{"a":1}})"), HasSubstr("linux.sysctl[\"a\"]: expected"));
}

TEST(Spec, HooksAreTheHostsAlone) {
  const std::string head = R"({"ociVersion":"1.0.2","root":{"path":"/"},"hooks":)";
  const auto spec =
      ParseSpec(head + R"({"prestart":[{"path":"/x","args":["a","b"],"env":["C=d"],"timeout":3}],
                 "poststop":[{"path":"/y"}]}})");
  ASSERT_TRUE(spec) << spec.error().message();
  ASSERT_EQ(spec->hooks.prestart.size(), 1U);
  EXPECT_EQ(spec->hooks.prestart[0].args, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(spec->hooks.prestart[0].timeout, 3);
  EXPECT_EQ(spec->hooks.poststop[0].path, "/y");
  EXPECT_FALSE(spec->hooks.empty());
  EXPECT_TRUE(ParseSpec(SpecToJson(*spec))->hooks.empty());
  Spec with_start = *spec;
  with_start.hooks.start_container = {{"/z", {"z", "1"}, {"A=b"}, 5}};
  const Hooks kept = ParseSpec(SpecToJson(with_start))->hooks;
  ASSERT_EQ(kept.start_container.size(), 1U);
  EXPECT_EQ(kept.start_container[0].path, "/z");
  EXPECT_EQ(kept.start_container[0].args, (std::vector<std::string>{"z", "1"}));
  EXPECT_EQ(kept.start_container[0].env, std::vector<std::string>{"A=b"});
  EXPECT_EQ(kept.start_container[0].timeout, 5);
  EXPECT_TRUE(kept.prestart.empty());
  for (const char* bad : {R"({"prestart":[{"path":"x"}]}})", R"({"prestart":[{}]}})",
                          R"({"prestart":[{"path":"/x","timeout":0}]}})"}) {
    EXPECT_THAT(ParseSpec(head + bad).error().message(), HasSubstr("hooks.prestart[0]."));
  }
}

TEST(Spec, ParsesResourcesAlone) {
  const auto resources = ParseResources(
      R"({"memory":{"limit":4096},"cpu":{"quota":-1},"pids":{"limit":7},"unified":{"a.b":"c"}})");
  ASSERT_TRUE(resources) << resources.error().message();
  EXPECT_EQ(resources->memory.limit, 4096);
  EXPECT_EQ(resources->memory.swap, std::nullopt);
  EXPECT_EQ(resources->cpu.quota, -1);
  const auto again = ParseResources(ResourcesToJson(*resources));
  ASSERT_TRUE(again);
  EXPECT_EQ(again->pids_limit, 7);
  EXPECT_EQ(again->unified, resources->unified);
  EXPECT_EQ(ParseResources(R"({"memory":{"limit":"x"}})").error().message(),
            "linux.resources: memory.limit: expected a whole number");
}

TEST(Spec, RefusesWhatIsNoSpec) {
  EXPECT_THAT(ErrorOf(""), HasSubstr("not valid JSON"));
  EXPECT_THAT(ErrorOf("[]"), HasSubstr("expected an object"));
  EXPECT_THAT(ErrorOf("{}"), HasSubstr("ociVersion: missing"));
  EXPECT_THAT(ErrorOf(R"({"ociVersion":"2.0","root":{"path":"/"}})"), HasSubstr("ociVersion"));
  EXPECT_THAT(ErrorOf(std::string(5U << 20U, ' ')), HasSubstr("longer than"));
  EXPECT_THAT(ErrorOf(std::string(1U << 20U, '[')), HasSubstr("not valid JSON"));
}

}  // namespace
}  // namespace bulkhead::oci
