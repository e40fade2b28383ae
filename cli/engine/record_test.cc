#include "cli/engine/record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/sys.h"
#include "base/temp_dir.h"

namespace bulkhead::cli {
namespace {

using testing::HasSubstr;

ContainerRecord Sample() {
  ContainerRecord record;
  record.id = "x";
  record.version = "1.0.2";
  record.bundle = "/b\n\"";
  record.rootfs = "/b/rootfs";
  record.created = "2026-01-31T23:59:59Z";
  record.pod = "0123456789abcdef";
  record.cgroups_path = "/docker/x";
  record.annotations = {{"a", "b"}};
  record.pid = 42;
  record.started = "4711";
  record.systemd_cgroup = true;
  return record;
}

TEST(Record, ComesBackAsItWas) {
  const auto read = ParseRecord(RecordToJson(Sample()));
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ(RecordToJson(*read), RecordToJson(Sample()));
  EXPECT_EQ(read->bundle, "/b\n\"");
  EXPECT_EQ(read->pid, 42);
}

TEST(Record, DamageIsToldAndNeverThrown) {
  for (const char* bad : {"", "{", "[]", "{\"id\":3}", "{\"id\":\"x\"}"}) {
    const auto read = ParseRecord(bad);
    ASSERT_FALSE(read) << bad;
    EXPECT_THAT(read.error().message(), HasSubstr("damaged"));
  }
}

TEST(CheckContainerId, IsNeverAPath) {
  EXPECT_TRUE(CheckContainerId("Ab_1+-.x"));
  for (const char* bad : {"", ".", "..", "a/b", "a b", "../x"}) {
    EXPECT_FALSE(CheckContainerId(bad)) << bad;
  }
}

TEST(ContainerRoot, KeepsContainersApartFromOtherRoots) {
  const TempDir folder = *TempDir::Create("/tmp/record-test-");
  const ContainerRoot root(folder.path() + "/one");
  const ContainerRoot other(folder.path() + "/two");
  ASSERT_TRUE(root.Reserve("x"));
  const Status again = root.Reserve("x");
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), ErrorCode::kAlreadyExists);
  EXPECT_EQ(root.Load("x").error().code(), ErrorCode::kNotFound);  // nothing is known of it yet
  ASSERT_TRUE(root.Save(Sample()));
  EXPECT_EQ(root.Load("x")->pod, Sample().pod);
  EXPECT_EQ(root.List().size(), 1U);
  EXPECT_TRUE(root.Has("x"));
  EXPECT_FALSE(other.Has("x"));
  EXPECT_THAT(other.Load("x").error().message(), HasSubstr("container does not exist"));
  ASSERT_TRUE(root.Remove("x"));
  EXPECT_FALSE(root.Has("x"));
  EXPECT_TRUE(root.List().empty());
}

TEST(StandInLives, OnlyThatProcess) {
  ContainerRecord record = Sample();
  record.pid = ::getpid();
  EXPECT_FALSE(StandInLives(record));  // another process of that pid
  record.started = *shim::ProcessStartTime(::getpid());
  EXPECT_TRUE(StandInLives(record));
  record.pid = 0;
  EXPECT_FALSE(StandInLives(record));
}

}  // namespace
}  // namespace bulkhead::cli
