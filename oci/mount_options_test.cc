#include "oci/mount_options.h"

#include <gtest/gtest.h>
#include <linux/mount.h>
#include <sys/mount.h>

namespace bulkhead::oci {
namespace {

TEST(MountOptions, Parses) {
  const auto options = ParseMountOptions(
      {"nosuid", "noexec", "ro", "rw", "rbind", "rprivate", "mode=755", "size=64k", "rro"});
  ASSERT_TRUE(options);
  EXPECT_EQ(options->flags, static_cast<unsigned long>(MS_NOSUID | MS_NOEXEC | MS_BIND | MS_REC));
  EXPECT_TRUE(options->explicit_flags);
  EXPECT_EQ(options->propagation, (std::vector<unsigned long>{MS_PRIVATE | MS_REC}));
  EXPECT_EQ(options->data, "mode=755,size=64k");
  EXPECT_EQ(options->recursive_set, static_cast<uint64_t>(MOUNT_ATTR_RDONLY));
}

TEST(MountOptions, EveryNameIsTaken) {
  for (const std::string& name : MountOptionNames()) {
    const auto options = ParseMountOptions({name});
    ASSERT_TRUE(options) << name;
    EXPECT_EQ(options->data, "") << name;  // not the file system's
  }
  EXPECT_EQ(ParseMountOptions({"size=1m", "inode64"})->data, "size=1m,inode64");
}

TEST(MountOptions, PlainBindNeedsNoRemount) {
  EXPECT_FALSE(ParseMountOptions({"rbind", "rslave"})->explicit_flags);
  EXPECT_TRUE(ParseMountOptions({"bind", "ro"})->explicit_flags);
  EXPECT_TRUE(ParseMountOptions({"tmpcopyup"})->copy_up);
  EXPECT_TRUE(ParseMountOptions({"idmap"})->id_map);
  EXPECT_FALSE(ParseMountOptions({"idmap"})->recursive_id_map);
  EXPECT_TRUE(ParseMountOptions({"ridmap"})->recursive_id_map);
}

TEST(MountOptions, WhatIsToBeOff) {
  EXPECT_EQ(ParseMountOptions({"nosuid", "ro"})->cleared, 0UL);
  EXPECT_EQ(ParseMountOptions({"rw", "suid"})->cleared,
            static_cast<unsigned long>(MS_RDONLY | MS_NOSUID));
  EXPECT_EQ(ParseMountOptions({"suid", "nosuid"})->cleared, 0UL);
}

TEST(MountOptions, Propagation) {
  EXPECT_EQ(*ParsePropagation("rshared"), static_cast<unsigned long>(MS_SHARED | MS_REC));
  EXPECT_FALSE(ParsePropagation("x"));
}

}  // namespace
}  // namespace bulkhead::oci
