#include "shim/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/sys.h"
#include "base/temp_dir.h"

namespace bulkhead {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string ErrorOf(std::string_view toml) {
  const auto config = ParseConfig(toml, "test.toml");
  return config ? "no error" : config.error().message();
}

TEST(Config, TakesEveryKey) {
  const auto config = ParseConfig(R"(
[hypervisor]
driver = "qemu"
qemu = "/q"
firmware = "/f"
kernel = "/k"
image = "/i"
kernel_parameters = "debug"
accel = "tcg"
channel = "serial"
vcpus = 3
memory = "1.5g"
memory_overhead = "64m"
boot_timeout = 7
kvm_watchdog = 3
[sharing]
transport = "9p"
virtiofsd = "/v"
[network]
model = "macvtap"
user_backend = "slirp"
passt = "/t"
[paths]
state = "/s"
data = "/d"
)",
                                  "test.toml");
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->qemu, "/q");
  EXPECT_EQ(config->accel, "tcg");
  EXPECT_EQ(config->vcpus, 3U);
  EXPECT_EQ(config->memory_bytes, 1536U << 20U);
  EXPECT_EQ(config->memory_overhead_bytes, 64U << 20U);
  EXPECT_EQ(config->boot_timeout_s, 7U);
  EXPECT_EQ(config->transport, "9p");
  EXPECT_EQ(config->data_dir, "/d");
  EXPECT_EQ(config->network_model, "macvtap");
  EXPECT_EQ(config->user_backend, "slirp");
}

TEST(Config, ErrorsNameFileAndKey) {
  EXPECT_THAT(ErrorOf("[hypervisor]\nvcpu = 1\n"),
              HasSubstr("test.toml: unknown key \"hypervisor.vcpu\""));
  EXPECT_THAT(ErrorOf("[hyper]\n"), HasSubstr("unknown section \"hyper\""));
  EXPECT_THAT(ErrorOf("debug = true\n"), HasSubstr("unknown key \"debug\""));
  EXPECT_THAT(ErrorOf("[hypervisor]\nvcpus = \"two\"\n"),
              HasSubstr("test.toml: hypervisor.vcpus: expected a number from 1 to 64"));
  EXPECT_THAT(ErrorOf("[hypervisor]\nvcpus = 65\n"), HasSubstr("from 1 to 64"));
  EXPECT_THAT(ErrorOf("[hypervisor]\naccel = \"xen\"\n"),
              HasSubstr("hypervisor.accel: \"xen\" is none of auto, kvm, tcg"));
  EXPECT_THAT(ErrorOf("[hypervisor]\nmemory = \"lots\"\n"), HasSubstr("hypervisor.memory"));
  EXPECT_THAT(ErrorOf("[hypervisor\n"), HasSubstr("test.toml: line 1"));
}

TEST(Config, AMissingFileIsNamed) {
  const auto config = LoadConfig("/nonexistent/bulkhead.toml");
  ASSERT_FALSE(config);
  EXPECT_THAT(config.error().message(), HasSubstr("/nonexistent/bulkhead.toml: No such file"));
}

TEST(Config, DropInsComeAfterTheFileInOrder) {
  const auto folder = TempDir::Create("/tmp/config-test-");
  const std::string file = folder->path() + "/c.toml";
  ASSERT_TRUE(sys::WriteFile(file, "[hypervisor]\nvcpus = 1\nmemory = \"1g\"\n"));
  ASSERT_TRUE(sys::Mkdir(file + ".d", 0700));
  ASSERT_TRUE(sys::WriteFile(file + ".d/20.toml", "[hypervisor]\nvcpus = 3\n"));
  ASSERT_TRUE(sys::WriteFile(file + ".d/10.toml", "[hypervisor]\nvcpus = 2\n"));
  ASSERT_TRUE(sys::WriteFile(file + ".d/README", "no toml"));
  const auto config = LoadConfig(file);
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->vcpus, 3U);
  EXPECT_EQ(config->memory_bytes, 1U << 30U);
  ASSERT_TRUE(sys::WriteFile(file + ".d/30.toml", "[hypervisor]\nvcpu = 3\n"));
  EXPECT_THAT(LoadConfig(file).error().message(),
              HasSubstr("30.toml: unknown key \"hypervisor.vcpu\""));
}

TEST(Config, AnnotationsThatAreAllowed) {
  const auto config = ParseConfig(
      "[annotations]\nallowed = [\"hypervisor.vcpus\", \"hypervisor.memory\"]\n", "test.toml");
  ASSERT_TRUE(config) << config.error().message();
  const auto changed = ApplyAnnotations(*config, {{"io.bulkhead.hypervisor.vcpus", "4"},
                                                  {"io.bulkhead.hypervisor.memory", "536870912"},
                                                  {"io.bulkhead.of-a-later-version", "x"},
                                                  {"other", "x"}});
  ASSERT_TRUE(changed) << changed.error().message();
  EXPECT_EQ(changed->vcpus, 4U);
  EXPECT_EQ(changed->memory_bytes, 512U << 20U);
  EXPECT_THAT(ApplyAnnotations(*config, {{"io.bulkhead.hypervisor.vcpus", "x"}}).error().message(),
              HasSubstr("io.bulkhead.hypervisor.vcpus: expected a number"));
  EXPECT_THAT(
      ApplyAnnotations(*config, {{"io.bulkhead.hypervisor.kernel", "/k"}}).error().message(),
      HasSubstr("\"hypervisor.kernel\" is not in annotations.allowed of test.toml"));
  EXPECT_FALSE(ApplyAnnotations(*config, {{"io.bulkhead.annotations.allowed", "x"}})
                   .value_or(Config())
                   .allowed_annotations.size() == 1);
  EXPECT_THAT(ErrorOf("[annotations]\nallowed = [\"hypervisor.cpu\"]\n"),
              HasSubstr("there is no key \"hypervisor.cpu\""));
  EXPECT_THAT(ErrorOf("[annotations]\nallowed = \"hypervisor.vcpus\"\n"),
              HasSubstr("expected an array of strings"));
}

TEST(Config, WhereAContainerWrites) {
  const auto config = ParseConfig(
      "[rootfs]\nupper = \"block\"\nupper_size = \"1.5g\"\nupper_folders = \"/a:/b/c\"\n"
      "mkfs = \"/m\"\n",
      "test.toml");
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->upper, "block");
  EXPECT_EQ(config->upper_size_bytes, 1536U << 20U);
  EXPECT_THAT(config->upper_folders, ElementsAre("/a", "/b/c"));
  EXPECT_EQ(config->mkfs, "/m");
  EXPECT_EQ(Config().upper, "shared");
  EXPECT_THAT(ErrorOf("[rootfs]\nupper = \"disk\"\n"),
              HasSubstr("rootfs.upper: \"disk\" is none of shared, block, memory"));
  EXPECT_THAT(ErrorOf("[rootfs]\nupper_size = 5\n"), HasSubstr("rootfs.upper_size: expected"));
  for (const char* bad : {"a", "/", "/a/", "/a:", ":/a", "/a/../b", "/a/./b", "//a", "/a b:c"}) {
    const auto error = ErrorOf(fmt::format("[rootfs]\nupper_folders = \"{}\"\n", bad));
    EXPECT_EQ(error.find("absolute") != std::string::npos, std::string(bad) != "/a:") << bad;
  }
}

TEST(Config, AContainerMaySayWhereItWrites) {
  const auto apply = [](const std::string& key, const std::string& value) {
    return ApplyAnnotations(Config(), {{"io.bulkhead.rootfs." + key, value}});
  };
  EXPECT_EQ(apply("upper", "memory")->upper, "memory");
  EXPECT_EQ(apply("upper.size", "16m")->upper_size_bytes, 16U << 20U);
  EXPECT_EQ(apply("upper_size", "16777216")->upper_size_bytes, 16U << 20U);
  EXPECT_EQ(apply("upper.size", "")->upper_size_bytes, 0U);
  EXPECT_THAT(apply("upper.folders", "/x")->upper_folders, ElementsAre("/x"));
  EXPECT_THAT(apply("upper", "disk").error().message(),
              HasSubstr("annotation io.bulkhead.rootfs.upper: \"disk\" is none of"));
  for (const char* bad : {"15m", "100", "17t", "-1", "x"}) {
    const auto changed = apply("upper.size", bad);
    ASSERT_FALSE(changed) << bad;
    EXPECT_THAT(changed.error().message(),
                HasSubstr(fmt::format("annotation io.bulkhead.rootfs.upper.size: \"{}\"", bad)));
  }
  EXPECT_EQ(apply("mkfs", "/bin/sh").error().code(), ErrorCode::kPermissionDenied);
}

TEST(ParseSize, Units) {
  EXPECT_EQ(ParseSize("4096").value(), 4096U);
  EXPECT_EQ(ParseSize("1k").value(), 1024U);
  EXPECT_EQ(ParseSize("512m").value(), 512U << 20U);
  EXPECT_EQ(ParseSize("512MB").value(), 512U << 20U);
  EXPECT_EQ(ParseSize("2GiB").value(), 2ULL << 30U);
  for (const char* bad : {"", "m", "-1", "1x", "0x10", "nan", "inf", "1m m", "1e30g"}) {
    EXPECT_FALSE(ParseSize(bad)) << bad;
  }
}

}  // namespace
}  // namespace bulkhead
