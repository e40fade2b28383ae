#include "agent/seccomp.h"

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#include <set>

#include "oci/words.h"

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

// The words that the host takes are those that the guest knows.
TEST(Seccomp, EveryActionAndOperator) {
  for (const std::string_view action : oci::kSeccompActions) {
    oci::Seccomp profile;
    profile.default_action = action;
    EXPECT_TRUE(CompileSeccomp(profile)) << action;
    for (const std::string_view op : oci::kSeccompOperators) {
      profile.default_action = "SCMP_ACT_ALLOW";
      profile.rules = {{{"read"}, std::string(action), {}, {{5, 1, 1, std::string(op)}}}};
      EXPECT_TRUE(CompileSeccomp(profile)) << action << " " << op;
    }
  }
}

TEST(Seccomp, EveryArchitectureOfTheGuestsByteOrder) {
  const std::set<std::string_view> other{
      "SCMP_ARCH_MIPS",   "SCMP_ARCH_MIPS64",   "SCMP_ARCH_MIPS64N32",
      "SCMP_ARCH_PARISC", "SCMP_ARCH_PARISC64", "SCMP_ARCH_PPC",
      "SCMP_ARCH_PPC64",  "SCMP_ARCH_S390",     "SCMP_ARCH_S390X"};
  for (const std::string_view name : oci::kSeccompArchitectures) {
    oci::Seccomp profile = DockerLike();
    profile.architectures = {std::string(name)};
    const auto program = CompileSeccomp(profile);
    EXPECT_EQ(program.has_value(), !other.contains(name)) << name;
    if (!program) {
      EXPECT_NE(program.error().message().find(name), std::string::npos);
      EXPECT_NE(program.error().message().find("byte order"), std::string::npos);
    }
  }
}

TEST(Seccomp, EveryFlag) {
  oci::Seccomp profile = DockerLike();
  profile.flags.assign(oci::kSeccompFlags.begin(), oci::kSeccompFlags.end());
  const auto program = CompileSeccomp(profile);
  ASSERT_TRUE(program) << program.error().message();
  EXPECT_EQ(program->flags, SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW);
}

}  // namespace
}  // namespace bulkhead::agent
