#include "agent/cgroups.h"

#include <gtest/gtest.h>

namespace bulkhead::agent {
namespace {

using Settings = std::vector<CgroupSetting>;

TEST(Cgroups, CpuWeightIsRuncs) {
  EXPECT_EQ(CpuWeightFromShares(2), 1U);
  EXPECT_EQ(CpuWeightFromShares(512), 20U);
  EXPECT_EQ(CpuWeightFromShares(1024), 39U);
  EXPECT_EQ(CpuWeightFromShares(262144), 10000U);
  EXPECT_EQ(CpuWeightFromShares(1), 1U);
  EXPECT_EQ(CpuWeightFromShares(~0ULL), 10000U);
}

TEST(Cgroups, ConvertsResources) {
  oci::Resources resources;
  EXPECT_EQ(*CgroupSettings(resources), Settings{});
  resources.memory = {100, 50, 150};
  resources.cpu = {1024, 50000, {}, "0-1", "0"};
  resources.pids_limit = 7;
  resources.unified = {{"memory.high", "90"}};
  EXPECT_EQ(*CgroupSettings(resources), (Settings{{"memory.swap.max", "50"},
                                                  {"memory.max", "100"},
                                                  {"memory.low", "50"},
                                                  {"cpu.weight", "39"},
                                                  {"cpu.max", "50000 100000"},
                                                  {"cpuset.cpus", "0-1"},
                                                  {"cpuset.mems", "0"},
                                                  {"pids.max", "7"},
                                                  {"memory.high", "90"}}));
}

TEST(Cgroups, UnlimitedIsMax) {
  oci::Resources resources;
  resources.memory = {-1, {}, {}};
  resources.cpu.quota = -1;
  resources.pids_limit = -1;
  EXPECT_EQ(*CgroupSettings(resources), (Settings{{"memory.swap.max", "max"},
                                                  {"memory.max", "max"},
                                                  {"cpu.max", "max 100000"},
                                                  {"pids.max", "max"}}));
  resources.memory = {100, {}, -1};
  EXPECT_EQ((*CgroupSettings(resources))[0].second, "max");
  resources.memory = {100, {}, 100};
  EXPECT_EQ((*CgroupSettings(resources))[0].second, "0");
}

TEST(Cgroups, RefusesNonsense) {
  oci::Resources resources;
  resources.memory = {{}, {}, 100};
  EXPECT_FALSE(CgroupSettings(resources));
  resources.memory = {100, {}, 50};
  EXPECT_FALSE(CgroupSettings(resources));
  resources.memory = {};
  resources.unified = {{"../../x", "1"}};
  EXPECT_FALSE(CgroupSettings(resources));
}

}  // namespace
}  // namespace bulkhead::agent
