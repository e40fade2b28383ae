#include "cli/engine/pod_daemon.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bulkhead::cli {
namespace {

using testing::HasSubstr;

class FindPodToJoinTest : public testing::Test {
 protected:
  FindPodToJoinTest() {
    for (const auto& [id, pod, pid] :
         {std::tuple("a", "pod-1", 10), std::tuple("b", "pod-2", 20)}) {
      ContainerRecord record;
      record.id = id;
      record.pod = pod;
      record.pid = pid;
      alive_.push_back(record);
    }
  }

  auto Find(std::vector<oci::Namespace> namespaces) {
    spec_.linux_.namespaces = std::move(namespaces);
    return FindPodToJoin(spec_, "c", alive_, [this](const std::string& path) {
      const auto found = host_.find(path);
      return found == host_.end() ? std::nullopt
                                  : std::optional(shim::NamespaceId(4, found->second));
    });
  }
  std::string Refusal(std::vector<oci::Namespace> namespaces) {
    const auto found = Find(std::move(namespaces));
    return found ? "" : found.error().message();
  }

  oci::Spec spec_;
  std::vector<ContainerRecord> alive_;
  std::map<std::string, uint64_t> host_{{"/proc/self/ns/net", 1}, {"/proc/1/ns/net", 1},
                                        {"/proc/10/ns/net", 100}, {"/proc/20/ns/net", 200},
                                        {"/run/netns/a", 100},    {"/run/netns/new", 300},
                                        {"/run/netns/host", 1}};
};

TEST_F(FindPodToJoinTest, OfItsOwn) {
  EXPECT_EQ(*Find({{"pid", ""}, {"network", ""}}), std::nullopt);
  EXPECT_EQ(*Find({{"pid", ""}, {"network", "/run/netns/new"}}), std::nullopt);
}

TEST_F(FindPodToJoinTest, ByANamespacesFile) {
  EXPECT_EQ((*Find({{"pid", ""}, {"network", "/proc/10/ns/net"}}))->id, "a");
  EXPECT_EQ((*Find({{"pid", ""}, {"network", "/run/netns/a"}}))->id, "a");
  EXPECT_EQ((*Find({{"pid", "/proc/20/ns/pid"}, {"network", ""}}))->id, "b");
  EXPECT_EQ((*Find({{"pid", ""}, {"network", ""}, {"ipc", "/proc/20/ns/ipc"}}))->id, "b");
}

TEST_F(FindPodToJoinTest, ByTheCrisAnnotations) {
  alive_[1].annotations = {{"io.kubernetes.cri.container-type", "sandbox"}};
  spec_.annotations = {{"io.kubernetes.cri.container-type", "container"},
                       {"io.kubernetes.cri.sandbox-id", "b"}};
  EXPECT_EQ((*Find({{"pid", ""}, {"network", ""}}))->id, "b");
  spec_.annotations["io.kubernetes.cri.sandbox-id"] = "z";
  EXPECT_THAT(Refusal({{"pid", ""}, {"network", ""}}), HasSubstr("sandbox z"));
}

// Its namespaces have files of their own, and most sandboxes no container.
TEST_F(FindPodToJoinTest, ByCriosAnnotations) {
  const std::vector<oci::Namespace> namespaces{
      {"pid", ""}, {"network", "/run/netns/new"}, {"ipc", "/run/ipcns/x"}, {"uts", "/run/utsns/x"}};
  spec_.annotations = {{"io.kubernetes.cri-o.ContainerType", "sandbox"}};
  EXPECT_EQ(*Find(namespaces), std::nullopt);
  spec_.annotations = {{"io.kubernetes.cri-o.ContainerType", "container"},
                       {"io.kubernetes.cri-o.SandboxID", "x"}};
  EXPECT_EQ(*Find(namespaces), std::nullopt);
  alive_[0].annotations = spec_.annotations;
  EXPECT_EQ((*Find(namespaces))->id, "a");
  alive_[0].id = "x";
  alive_[0].annotations = {{"io.kubernetes.cri-o.ContainerType", "sandbox"}};
  EXPECT_EQ((*Find(namespaces))->id, "x");
  alive_[0].annotations.clear();
  EXPECT_EQ((*Find(namespaces))->id, "x");
}

TEST_F(FindPodToJoinTest, WhatNoVmCanGiveIsRefusedByName) {
  EXPECT_THAT(Refusal({{"pid", ""}}), HasSubstr("linux.namespaces: network"));
  EXPECT_THAT(Refusal({{"network", ""}}), HasSubstr("linux.namespaces: pid"));
  EXPECT_THAT(Refusal({{"pid", ""}, {"network", "/run/netns/host"}}), HasSubstr("host's own"));
  EXPECT_THAT(Refusal({{"pid", ""}, {"network", "/run/netns/gone"}}), HasSubstr("there is none"));
  EXPECT_THAT(Refusal({{"pid", "/proc/30/ns/pid"}, {"network", ""}}),
              HasSubstr("belongs to no container"));
  EXPECT_THAT(Refusal({{"pid", "/proc/10/ns/pid"}, {"network", "/proc/20/ns/net"}}),
              HasSubstr("two virtual machines"));
}

}  // namespace
}  // namespace bulkhead::cli
