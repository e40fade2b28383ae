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
  resources.memory = {100, 50, 150, false};
  resources.cpu = {1024, 50000, {}, "0-1", "0", {}, {}};
  resources.pids_limit = 7;
  resources.hugepage_limits = {{"2MB", 4U << 20U}};
  resources.unified = {{"memory.high", "90"}};
  EXPECT_EQ(*CgroupSettings(resources), (Settings{{"memory.swap.max", "50"},
                                                  {"memory.max", "100"},
                                                  {"memory.low", "50"},
                                                  {"cpu.weight", "39"},
                                                  {"cpu.max", "50000 100000"},
                                                  {"cpuset.cpus", "0-1"},
                                                  {"cpuset.mems", "0"},
                                                  {"pids.max", "7"},
                                                  {"hugetlb.2MB.max", "4194304"},
                                                  {"memory.high", "90"}}));
}

TEST(Cgroups, UnlimitedIsMax) {
  oci::Resources resources;
  resources.memory = {-1, {}, {}, false};
  resources.cpu.quota = -1;
  resources.pids_limit = -1;
  EXPECT_EQ(*CgroupSettings(resources), (Settings{{"memory.swap.max", "max"},
                                                  {"memory.max", "max"},
                                                  {"cpu.max", "max 100000"},
                                                  {"pids.max", "max"}}));
  resources.memory = {100, {}, -1, false};
  EXPECT_EQ((*CgroupSettings(resources))[0].second, "max");
  resources.memory = {100, {}, 100, false};
  EXPECT_EQ((*CgroupSettings(resources))[0].second, "0");
}

TEST(Cgroups, AnUpdateChangesOnlyWhatItNames) {
  oci::Resources current;
  current.memory = {100, 50, 150, false};
  current.cpu = {1024, 50000, 200000, "0-1", "0", {}, {}};
  current.pids_limit = 7;
  oci::Resources update;
  update.pids_limit = 9;
  EXPECT_EQ(*CgroupSettings(CompleteUpdate(current, update)), (Settings{{"pids.max", "9"}}));
  update = {};
  update.cpu.period = 100000;
  EXPECT_EQ(*CgroupSettings(CompleteUpdate(current, update)),
            (Settings{{"cpu.max", "50000 100000"}}));
  update = {};
  update.memory.limit = 120;
  EXPECT_EQ(*CgroupSettings(CompleteUpdate(current, update)),
            (Settings{{"memory.swap.max", "30"}, {"memory.max", "120"}}));
  update.memory.limit = 200;  // above the limit of both together
  EXPECT_FALSE(CgroupSettings(CompleteUpdate(current, update)));
  update.memory.limit = -1;
  EXPECT_EQ(*CgroupSettings(CompleteUpdate(current, update)),
            (Settings{{"memory.swap.max", "max"}, {"memory.max", "max"}}));
}

TEST(Cgroups, UpdatesAddUp) {
  oci::Resources current;
  current.cpu.period = 200000;
  oci::Resources update;
  update.cpu.quota = 50000;
  update.memory.limit = 100;
  RememberUpdate(CompleteUpdate(current, update), current);
  update = {};
  update.memory.swap = 150;
  update.cpu.quota = 60000;
  EXPECT_EQ(
      *CgroupSettings(CompleteUpdate(current, update)),
      (Settings{{"memory.swap.max", "50"}, {"memory.max", "100"}, {"cpu.max", "60000 200000"}}));
}

TEST(Cgroups, BurstAndIdle) {
  oci::Resources resources;
  resources.cpu.idle = 1;
  resources.cpu.burst = 20000;
  EXPECT_EQ(*CgroupSettings(resources), (Settings{{"cpu.idle", "1"}, {"cpu.max.burst", "20000"}}));
  resources.cpu.idle = 0;
  resources.cpu.shares = 1024;
  resources.cpu.quota = 50000;  // either may be the one that makes room for the other
  EXPECT_EQ(*CgroupSettings(resources), (Settings{{"cpu.idle", "0"},
                                                  {"cpu.weight", "39"},
                                                  {"cpu.max.burst", "20000"},
                                                  {"cpu.max", "50000 100000"},
                                                  {"cpu.max.burst", "20000"}}));
}

TEST(Cgroups, BlockIo) {
  oci::Resources resources;
  resources.block_io = {
      200, {{8, 0, 300}, {8, 16, 0}}, {{8, 0, 1}}, {{8, 1, 2}}, {{8, 2, 3}}, {{8, 3, 0}}};
  EXPECT_EQ(*CgroupSettings(resources), (Settings{{"io.bfq.weight", "200"},
                                                  {"io.bfq.weight", "8:0 300"},
                                                  {"io.bfq.weight", "8:16 default"},
                                                  {"io.max", "8:0 rbps=1"},
                                                  {"io.max", "8:1 wbps=2"},
                                                  {"io.max", "8:2 riops=3"},
                                                  {"io.max", "8:3 wiops=max"}}));
}

TEST(Cgroups, RefusesNonsense) {
  oci::Resources resources;
  resources.memory = {{}, {}, 100, false};
  EXPECT_FALSE(CgroupSettings(resources));
  resources.memory = {100, {}, 50, false};
  EXPECT_FALSE(CgroupSettings(resources));
  resources.memory = {};
  resources.unified = {{"../../x", "1"}};
  EXPECT_FALSE(CgroupSettings(resources));
}

}  // namespace
}  // namespace bulkhead::agent
