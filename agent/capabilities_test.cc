#include "agent/capabilities.h"

#include <gtest/gtest.h>
#include <linux/capability.h>

namespace bulkhead::agent {
namespace {

TEST(Capabilities, Parses) {
  const std::vector<std::string> two{"CAP_CHOWN", "CAP_SYS_ADMIN"};
  const auto sets = CapabilitySets::Parse(oci::Capabilities{two, {"CAP_KILL"}, {}, two, two});
  ASSERT_TRUE(sets);
  EXPECT_EQ(sets->bounding, 1ULL << CAP_CHOWN | 1ULL << CAP_SYS_ADMIN);
  EXPECT_EQ(sets->effective, 1ULL << CAP_KILL);
  EXPECT_EQ(sets->ambient, 0U);  // not inheritable
}

TEST(Capabilities, NoneWhenAbsentAndUnknownRefused) {
  EXPECT_EQ(CapabilitySets::Parse(std::nullopt)->bounding, 0U);
  for (const char* name : {"CAP_FOO", "CHOWN", "", "42"}) {
    EXPECT_FALSE(CapabilitySets::Parse(oci::Capabilities{{name}, {}, {}, {}, {}})) << name;
  }
}

}  // namespace
}  // namespace bulkhead::agent
