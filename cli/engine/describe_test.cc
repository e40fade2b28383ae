#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cli/engine/default_spec.h"
#include "cli/engine/events.h"
#include "cli/engine/list.h"
#include "cli/globals.h"
#include "containerd/cgroups_v1.pb.h"
#include "containerd/cgroups_v2.pb.h"
#include "oci/spec.h"

namespace bulkhead::cli {
namespace {

using nlohmann::json;
using testing::StartsWith;

TEST(DefaultSpec, IsOneThatWeTake) {
  const auto spec = oci::ParseSpec(DefaultSpec(false));
  ASSERT_TRUE(spec) << spec.error().message();
  EXPECT_EQ(spec->process->args, std::vector<std::string>{"sh"});
  EXPECT_TRUE(spec->process->terminal);
  const auto rootless = oci::ParseSpec(DefaultSpec(true));
  ASSERT_TRUE(rootless) << rootless.error().message();
  EXPECT_EQ(rootless->linux_.uid_mappings.size(), 1U);
}

TEST(StatsEvent, HasRuncsNamesForBothCgroupVersions) {
  io::containerd::cgroups::v1::Metrics one;
  one.mutable_cpu()->mutable_usage()->set_total(7000);
  one.mutable_memory()->mutable_usage()->set_usage(4096);
  one.mutable_pids()->set_current(3);
  io::containerd::cgroups::v2::Metrics two;
  two.mutable_cpu()->set_usage_usec(7);
  two.mutable_memory()->set_usage(4096);
  two.mutable_pids()->set_current(3);
  for (const TaskStats& stats :
       {TaskStats{"io.containerd.cgroups.v1.Metrics", one.SerializeAsString()},
        TaskStats{"io.containerd.cgroups.v2.Metrics", two.SerializeAsString()}}) {
    const auto line = StatsEvent("x", stats);
    ASSERT_TRUE(line) << line.error().message();
    const json event = json::parse(*line);
    EXPECT_EQ(event["type"], "stats");
    EXPECT_EQ(event["id"], "x");
    EXPECT_EQ(event["data"]["cpu"]["usage"]["total"], 7000);
    EXPECT_EQ(event["data"]["memory"]["usage"]["usage"], 4096);
    EXPECT_EQ(event["data"]["pids"]["current"], 3);
  }
  EXPECT_FALSE(StatsEvent("x", {"io.containerd.cgroups.v1.Metrics", "\xff"}));
}

TEST(ParseGoDuration, TakesWhatGoWrites) {
  EXPECT_EQ(ParseGoDuration("5s")->count(), 5000);
  EXPECT_EQ(ParseGoDuration("500ms")->count(), 500);
  EXPECT_EQ(ParseGoDuration("1h30m")->count(), 5'400'000);
  EXPECT_EQ(ParseGoDuration("1.5s")->count(), 1500);
  for (const char* bad : {"", "5", "s", "-1s", "5x", "0s", "1e300h"}) {
    EXPECT_FALSE(ParseGoDuration(bad)) << bad;
  }
}

TEST(FullStateJson, HasWhatEnginesRead) {
  ContainerRecord record;
  record.id = "x";
  record.version = "1.0.2";
  record.bundle = "/b";
  record.rootfs = "/b/rootfs";
  record.created = "2026-01-31T23:59:59.000000000Z";
  record.annotations["a"] = "b";
  const json state = json::parse(FullStateJson(record, {"running", 42}));
  EXPECT_EQ(state, json::parse(R"({"ociVersion":"1.0.2","id":"x","pid":42,"status":"running",
    "bundle":"/b","rootfs":"/b/rootfs","created":"2026-01-31T23:59:59.000000000Z",
    "annotations":{"a":"b"},"owner":""})"));
  EXPECT_THAT(ContainersTable({{record, {"running", 42}}}), StartsWith("ID   PID"));
  EXPECT_EQ(ContainersJson({{record, {"stopped", 0}}})[0]["owner"], "root");
}

TEST(EngineLogLine, IsWhatEnginesRead) {
  EXPECT_EQ(EngineLogLine(true, "error", "no \"x\"", "T"),
            "{\"level\":\"error\",\"msg\":\"no \\\"x\\\"\",\"time\":\"T\"}\n");
  EXPECT_EQ(EngineLogLine(false, "warning", "m", "T"), "time=\"T\" level=warning msg=\"m\"\n");
}

}  // namespace
}  // namespace bulkhead::cli
