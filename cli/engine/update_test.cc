#include "cli/engine/update.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/engine/exec.h"
#include "oci/spec.h"

namespace bulkhead::cli {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(ResourcesOf, OptionsBecomeConfigJsonsObject) {
  UpdateOptions options;
  options.memory = "64m";
  options.memory_swap = "-1";
  options.cpu_quota = 50000;
  options.pids_limit = 20;
  const auto resources = oci::ParseResources(*ResourcesOf(options));
  ASSERT_TRUE(resources) << resources.error().message();
  EXPECT_EQ(resources->memory.limit, 64 << 20);
  EXPECT_EQ(resources->memory.swap, -1);
  EXPECT_EQ(resources->cpu.quota, 50000);
  EXPECT_EQ(resources->cpu.shares, std::nullopt);
  EXPECT_EQ(resources->pids_limit, 20);
}

TEST(ResourcesOf, CpuAndBlockIo) {
  UpdateOptions options;
  options.cpu_burst = 7000;
  options.cpu_idle = 1;
  options.blkio_weight = 300;
  const auto resources = oci::ParseResources(*ResourcesOf(options));
  ASSERT_TRUE(resources) << resources.error().message();
  EXPECT_EQ(resources->cpu.burst, 7000U);
  EXPECT_EQ(resources->cpu.idle, 1);
  EXPECT_EQ(resources->block_io.weight, 300);
  options = {};
  options.cpu_rt_runtime = 1000;
  EXPECT_THAT(oci::ParseResources(*ResourcesOf(options)).error().message(),
              HasSubstr("cpu.realtimeRuntime"));
}

TEST(ResourcesOf, WhatIsNotThereIsNamed) {
  UpdateOptions options;
  options.memory = "much";
  EXPECT_THAT(ResourcesOf(options).error().message(), HasSubstr("--memory"));
  options = {};
  options.l3_cache_schema = "x";
  EXPECT_THAT(ResourcesOf(options).error().message(), HasSubstr("RDT"));
  options = {};
  options.resources = "/no/such";
  EXPECT_THAT(ResourcesOf(options).error().message(), HasSubstr("/no/such"));
}

TEST(BuildEngineProcess, IsTheContainersWithChanges) {
  oci::Process base;
  base.args = {"init"};
  base.env = {"A=b"};
  base.terminal = true;
  EngineExecOptions options;
  options.rest = {"x", "sh", "-c", "true"};
  options.env = {"C=d"};
  options.user = "7:8";
  options.cwd = "/tmp";
  options.caps = {"net_raw"};
  const auto process = BuildEngineProcess(options, base);
  ASSERT_TRUE(process) << process.error().message();
  EXPECT_THAT(process->args, ElementsAre("sh", "-c", "true"));
  EXPECT_THAT(process->env, ElementsAre("A=b", "C=d"));
  EXPECT_FALSE(process->terminal);
  EXPECT_EQ(process->user.uid, 7U);
  EXPECT_EQ(process->user.gid, 8U);
  EXPECT_EQ(process->cwd, "/tmp");
  EXPECT_THAT(process->capabilities->effective, Contains("CAP_NET_RAW"));
}

TEST(BuildEngineProcess, RefusesNamesAndNothing) {
  EngineExecOptions options;
  options.rest = {"x"};
  EXPECT_FALSE(BuildEngineProcess(options, {}));
  options.rest = {"x", "sh"};
  options.user = "root";
  EXPECT_THAT(BuildEngineProcess(options, {}).error().message(), HasSubstr("--user"));
}

}  // namespace
}  // namespace bulkhead::cli
