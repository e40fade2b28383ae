#include "cli/engine/cgroup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bulkhead::cli {
namespace {

using testing::HasSubstr;

constexpr char kMounts[] =
    R"(22 1 0:20 / /proc rw - proc proc rw
30 1 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
31 1 0:27 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
32 1 0:28 / /sys/fs/cgroup/pids ro,nosuid - cgroup cgroup rw,pids
33 1 0:29 / /sys/fs/cgroup/unified rw master:1 - cgroup2 cgroup2 rw
34 1 0:27 / /mnt/cpuset rw - cgroup cgroup rw,cpuset
)";

TEST(ParseCgroupMounts, TakesEachHierarchyOnceUnlessReadOnly) {
  const auto mounts = ParseCgroupMounts(kMounts);
  ASSERT_EQ(mounts.size(), 3U);
  EXPECT_EQ(mounts[0].path, "/sys/fs/cgroup/cpu,cpuacct");
  EXPECT_FALSE(mounts[0].v2 || mounts[0].cpuset);
  EXPECT_EQ(mounts[1].path, "/sys/fs/cgroup/cpuset");
  EXPECT_TRUE(mounts[1].cpuset);
  EXPECT_TRUE(mounts[2].v2);
}

TEST(CgroupPathOf, PlainPaths) {
  EXPECT_EQ(*CgroupPathOf("/docker/x", "x", false), "/docker/x");
  EXPECT_EQ(*CgroupPathOf("a/b", "x", false), "/a/b");
  EXPECT_EQ(*CgroupPathOf("", "x", false), "/bulkhead-x");
  EXPECT_EQ(*CgroupPathOf("", "x", true), "/bulkhead-x");
  const auto upwards = CgroupPathOf("/a/../../b", "x", false);
  ASSERT_FALSE(upwards);
  EXPECT_THAT(upwards.error().message(), HasSubstr("linux.cgroupsPath"));
  EXPECT_THAT(CgroupPathOf("system.slice:docker:x", "x", false).error().message(),
              HasSubstr("--systemd-cgroup"));
}

TEST(CgroupPathOf, SystemdsForm) {
  EXPECT_EQ(*CgroupPathOf("system.slice:docker:x", "x", true), "/system.slice/docker-x.scope");
  EXPECT_EQ(*CgroupPathOf(":crio:x", "x", true), "/system.slice/crio-x.scope");
  EXPECT_EQ(*CgroupPathOf("kubepods-burstable-pod1.slice:cri:x", "x", true),
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-x.scope");
  for (const char* bad : {"/docker/x", "a:b", "a/b.slice:p:n", "noslice:p:n", "a.slice:p:"}) {
    const auto path = CgroupPathOf(bad, "x", true);
    ASSERT_FALSE(path) << bad;
    EXPECT_THAT(path.error().message(), HasSubstr("slice:prefix:name"));
  }
}

}  // namespace
}  // namespace bulkhead::cli
