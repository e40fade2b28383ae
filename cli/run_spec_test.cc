#include "cli/run_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/default_seccomp.h"

namespace bulkhead::cli {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::Field;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

class RunSpecTest : public testing::Test {
 protected:
  Result<oci::Spec> Build() const {
    return BuildSpec({options_, image_, user_, "host", "/pod/etc", std::nullopt, std::nullopt});
  }

  RunOptions options_;
  oci::ImageConfig image_;
  oci::ResolvedUser user_;
};

TEST_F(RunSpecTest, CombinesEntrypointAndCommandAsDockerDoes) {
  image_.entrypoint = {"/e"};
  image_.cmd = {"c"};
  EXPECT_THAT(CommandLine(options_, image_), ElementsAre("/e", "c"));
  options_.command = {"x"};
  EXPECT_THAT(CommandLine(options_, image_), ElementsAre("/e", "x"));
  options_.entrypoint = "/mine";
  EXPECT_THAT(CommandLine(options_, image_), ElementsAre("/mine", "x"));
  options_.command.clear();
  EXPECT_THAT(CommandLine(options_, image_), ElementsAre("/mine"));
  options_.entrypoint = "";
  EXPECT_THAT(CommandLine(options_, image_), IsEmpty());
  EXPECT_FALSE(Build());
}

TEST_F(RunSpecTest, DockersDefaults) {
  image_.cmd = {"sh"};
  const auto spec = Build();
  ASSERT_TRUE(spec) << spec.error().message();
  EXPECT_THAT(spec->process->env,
              ElementsAre("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                          "HOSTNAME=host", "HOME=/"));
  EXPECT_EQ(spec->process->cwd, "/");
  EXPECT_THAT(spec->process->capabilities->bounding, SizeIs(14));
  EXPECT_THAT(spec->process->capabilities->ambient, IsEmpty());
  EXPECT_THAT(spec->linux_.namespaces, SizeIs(6));
  EXPECT_THAT(spec->mounts, Contains(Field(&oci::Mount::destination, "/sys/fs/cgroup")));
  EXPECT_THAT(spec->mounts, Contains(Field(&oci::Mount::source, "/pod/etc/hosts")));
  EXPECT_TRUE(spec->linux_.seccomp);
  EXPECT_THAT(spec->annotations, IsEmpty());
}

TEST_F(RunSpecTest, AUserThatIsNotRootHasNoEffectiveCapabilities) {
  image_.cmd = {"sh"};
  user_.user.uid = 1000;
  const auto spec = Build();
  EXPECT_THAT(spec->process->capabilities->effective, IsEmpty());
  EXPECT_THAT(spec->process->capabilities->bounding, SizeIs(14));
}

TEST_F(RunSpecTest, Limits) {
  image_.cmd = {"sh"};
  options_.cpus = 1.5;
  options_.memory = 64U << 20U;
  const auto spec = Build();
  EXPECT_EQ(spec->linux_.resources.cpu.quota, 150000);
  EXPECT_EQ(spec->linux_.resources.memory.swap, 64 << 20);
}

TEST_F(RunSpecTest, AUsersMountTakesThePlaceOfADefault) {
  image_.cmd = {"sh"};
  options_.volumes = {{"/src", "/dev/shm", true}, {"/a", "/x/y", false}, {"/b", "/x", false}};
  const auto spec = Build();
  const auto at = [&](const std::string& destination) {
    return std::find_if(spec->mounts.begin(), spec->mounts.end(),
                        [&](const oci::Mount& m) { return m.destination == destination; });
  };
  EXPECT_EQ(at("/dev/shm")->source, "/src");
  EXPECT_THAT(at("/dev/shm")->options, Contains("ro"));
  EXPECT_LT(at("/x"), at("/x/y"));
}

TEST_F(RunSpecTest, Init) {
  image_.cmd = {"sh"};
  options_.init = true;
  const auto spec = Build();
  EXPECT_THAT(spec->process->args,
              ElementsAre("/sbin/bulkhead-init", "container-init", "--", "sh"));
  EXPECT_EQ(spec->mounts.back().source, "guest:/init");
}

TEST(CapabilitiesTest, AddAndDrop) {
  EXPECT_THAT(BoundingCapabilities({}, {"ALL"}), IsEmpty());
  EXPECT_THAT(BoundingCapabilities({"CAP_CHOWN"}, {"ALL"}), ElementsAre("CAP_CHOWN"));
  EXPECT_THAT(BoundingCapabilities({"ALL"}, {}), SizeIs(AllCapabilities().size()));
  EXPECT_THAT(BoundingCapabilities({"ALL"}, {"CAP_KILL"}), Not(Contains("CAP_KILL")));
  EXPECT_THAT(BoundingCapabilities({"CAP_SYS_TIME"}, {"CAP_KILL"}), SizeIs(14));
}

TEST(DefaultSeccompTest, ACapabilityAllowsItsCalls) {
  const auto denies = [](const oci::Seccomp& seccomp, const std::string& call) {
    return std::any_of(seccomp.rules.begin(), seccomp.rules.end(), [&](const auto& rule) {
      return std::count(rule.names.begin(), rule.names.end(), call) > 0;
    });
  };
  const oci::Seccomp usual = DefaultSeccomp({});
  for (const char* call : {"mount", "clone", "clone3", "bpf", "init_module", "keyctl"}) {
    EXPECT_TRUE(denies(usual, call)) << call;
  }
  EXPECT_FALSE(denies(usual, "ptrace"));
  const oci::Seccomp admin = DefaultSeccomp({"CAP_SYS_ADMIN"});
  for (const char* call : {"mount", "clone", "clone3", "bpf"}) {
    EXPECT_FALSE(denies(admin, call)) << call;
  }
  EXPECT_TRUE(denies(admin, "init_module"));
}

TEST(SeccompProfileTest, ParsesTheBasicForm) {
  const auto profile = ParseSeccompProfile(
      R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO",
          "errnoRet":13,"args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]}]})",
      "p");
  ASSERT_TRUE(profile) << profile.error().message();
  EXPECT_EQ(profile->rules.at(0).errno_ret, 13U);
  EXPECT_EQ(profile->rules.at(0).args.at(0).op, "SCMP_CMP_EQ");
  EXPECT_FALSE(ParseSeccompProfile("{", "p"));
  EXPECT_FALSE(ParseSeccompProfile(
      R"({"defaultAction":"A","syscalls":[{"names":["x"],"action":"B","includes":{"caps":["C"]}}]})",
      "p"));
}

}  // namespace
}  // namespace bulkhead::cli
