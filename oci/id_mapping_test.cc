#include "oci/id_mapping.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "oci/spec_check.h"

namespace bulkhead::oci {
namespace {

using ::testing::HasSubstr;

const std::vector<IdMapping> kRoot{{0, 100000, 10}};

std::string Told(const Spec& spec) {
  const Status status = CheckSpec(spec);
  return status ? "" : status.error().message();
}

Spec WithUser(const std::string& path = "") {
  Spec spec;
  spec.linux_.namespaces = {{"user", path}};
  return spec;
}

Spec WithBind(std::vector<std::string> options) {
  Spec spec;
  spec.mounts.push_back({"/data", "bind", "/srv", std::move(options), {}, {}});
  return spec;
}

TEST(IdMapping, TextAndIds) {
  const std::vector<IdMapping> mappings{{0, 1000, 2}, {5, 4'000'000'000, 1}};
  EXPECT_EQ(MapText(mappings), "0 1000 2\n5 4000000000 1\n");
  EXPECT_EQ(OutsideId(mappings, 1), 1001U);
  EXPECT_EQ(OutsideId(mappings, 2), std::nullopt);
  EXPECT_EQ(OutsideId(mappings, 5), 4'000'000'000U);
  EXPECT_EQ(OutsideId({{0, 7, 0}}, 0), std::nullopt);
}

TEST(IdMapping, ANewUserNamespaceNeedsMappings) {
  Spec spec = WithUser();
  EXPECT_THAT(Told(spec), HasSubstr("linux.uidMappings"));
  spec.linux_.uid_mappings = kRoot;
  EXPECT_THAT(Told(spec), HasSubstr("linux.gidMappings"));
  spec.linux_.gid_mappings = {{1, 2, 3}};
  EXPECT_THAT(Told(spec), HasSubstr("root (0) is not mapped"));
  spec.linux_.gid_mappings = kRoot;
  EXPECT_EQ(Told(spec), "");
  EXPECT_EQ(Told(WithUser("/proc/1/ns/user")), "");
  spec.linux_.namespaces.clear();
  EXPECT_THAT(Told(spec), HasSubstr("without a user namespace"));
}

TEST(IdMapping, MountsHaveBothKindsOrNone) {
  Spec spec = WithBind({"rbind"});
  EXPECT_EQ(Told(spec), "");
  spec.mounts[0].uid_mappings = kRoot;
  EXPECT_THAT(Told(spec), HasSubstr("mounts: /data"));
  spec.mounts[0].gid_mappings = kRoot;
  EXPECT_EQ(Told(spec), "");
  spec.mounts[0].type = "tmpfs";
  spec.mounts[0].options.clear();
  EXPECT_THAT(Told(spec), HasSubstr("only bind mounts"));
}

TEST(IdMapping, TheContainersOwnAreTheDefault) {
  EXPECT_THAT(Told(WithBind({"rbind", "ridmap"})), HasSubstr("idmap"));
  Spec spec = WithBind({"bind", "idmap"});
  spec.linux_ = WithUser().linux_;
  spec.linux_.uid_mappings = spec.linux_.gid_mappings = kRoot;
  EXPECT_EQ(Told(spec), "");
}

}  // namespace
}  // namespace bulkhead::oci
