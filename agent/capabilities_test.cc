#include "agent/capabilities.h"

#include <gtest/gtest.h>
#include <linux/capability.h>

namespace bulkhead::agent {
namespace {

TEST(Capabilities, Parses) {
  const std::vector<std::string> two{"CAP_CHOWN", "CAP_SYS_ADMIN"};
  const auto sets = CapabilitySets::Parse(oci::Capabilities{two, {"CAP_KILL"}, {}, two, two});
  EXPECT_EQ(sets.bounding, 1ULL << CAP_CHOWN | 1ULL << CAP_SYS_ADMIN);
  EXPECT_EQ(sets.effective, 1ULL << CAP_KILL);
  EXPECT_EQ(sets.ambient, 0U);  // not inheritable
}

TEST(Capabilities, NoneWhenAbsent) { EXPECT_EQ(CapabilitySets::Parse(std::nullopt).bounding, 0U); }

TEST(Capabilities, UnknownNamesAreIgnored) {
  for (const char* name : {"CAP_FOO", "CHOWN", "", "42"}) {
    const auto sets = CapabilitySets::Parse(oci::Capabilities{{name, "CAP_KILL"}, {}, {}, {}, {}});
    EXPECT_EQ(sets.bounding, 1ULL << CAP_KILL) << name;
  }
}

}  // namespace
}  // namespace bulkhead::agent
