#include "agent/seccomp.h"

#include <gtest/gtest.h>
#include <linux/filter.h>

namespace bulkhead::agent {
namespace {

oci::Seccomp DockerLike() {
  oci::Seccomp profile;
  profile.default_action = "SCMP_ACT_ERRNO";
  profile.default_errno_ret = 1;
  profile.architectures = {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"};
  profile.rules = {
      {{"read", "write", "openat", "exit_group", "not_a_call"}, "SCMP_ACT_ALLOW", {}, {}},
      {{"personality"}, "SCMP_ACT_ALLOW", {}, {{0, 0, 0, "SCMP_CMP_EQ"}}},
      {{"socket"}, "SCMP_ACT_ALLOW", {}, {{0, 40, 0, "SCMP_CMP_LT"}, {0, 41, 0, "SCMP_CMP_GT"}}},
      {{"clone"}, "SCMP_ACT_ALLOW", {}, {{0, 2114060288, 0, "SCMP_CMP_MASKED_EQ"}}},
      {{"clone3"}, "SCMP_ACT_ERRNO", 38, {}},
      {{"kill"}, "SCMP_ACT_ERRNO", 1, {}},  // says the default: skipped
  };
  return profile;
}

TEST(Seccomp, CompilesADockerLikeProfile) {
  const auto program = CompileSeccomp(DockerLike());
  ASSERT_TRUE(program) << program.error().message();
  EXPECT_EQ(program->filter.size() % sizeof(sock_filter), 0U);
  EXPECT_GT(program->filter.size() / sizeof(sock_filter), 20U);
}

TEST(Seccomp, RefusesUnknownWords) {
  const auto refused = [](auto change) {
    oci::Seccomp profile = DockerLike();
    change(profile);
    return !CompileSeccomp(profile);
  };
  EXPECT_TRUE(refused([](oci::Seccomp& p) { p.default_action = "SCMP_ACT_FOO"; }));
  EXPECT_TRUE(refused([](oci::Seccomp& p) { p.rules[0].action = "SCMP_ACT_NOTIFY"; }));
  EXPECT_TRUE(refused([](oci::Seccomp& p) { p.architectures = {"SCMP_ARCH_FOO"}; }));
  EXPECT_TRUE(refused([](oci::Seccomp& p) { p.flags = {"FOO"}; }));
  EXPECT_TRUE(refused([](oci::Seccomp& p) { p.rules[1].args[0].op = "FOO"; }));
  EXPECT_TRUE(refused([](oci::Seccomp& p) { p.rules[1].args[0].index = 6; }));
}

}  // namespace
}  // namespace bulkhead::agent
