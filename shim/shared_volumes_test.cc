#include "shim/shared_volumes.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <set>

#include "shim/mount_test_util.h"

namespace bulkhead::shim {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Volume = std::shared_ptr<SharedVolume>;

class SharedVolumesTest : public MountTest {
 protected:
  void WithVolumes(const std::function<void(SharedVolumes&)>& body, bool by_root = false) {
    InNamespace([&] {
      ASSERT_TRUE(sys::Mount("volumes", path("shared"), "tmpfs", 0));
      const auto root = ShareRoot::Make(path("shared"));
      ASSERT_TRUE(root) << root.error().message();
      auto volumes = SharedVolumes::Make(**root, "volumes", by_root);
      ASSERT_TRUE(volumes) << volumes.error().message();
      body(**volumes);
      EXPECT_THAT(*sys::ListDirectory(path("shared/volumes")), IsEmpty());
      volumes->reset();
      EXPECT_FALSE(sys::Exists(path("shared/volumes")));
    });
  }

  VolumeRequest Request(const std::string& name, std::vector<std::string> options) const {
    return {{"/x", "bind", path(name), std::move(options)}, {}, {}};
  }
  Result<Volume> Get(SharedVolumes& volumes, const std::string& name,
                     std::vector<std::string> options) const {
    return volumes.Get(Request(name, std::move(options)));
  }
};

TEST_F(SharedVolumesTest, WhatIsAlikeIsOne) {
  WithVolumes([&](SharedVolumes& volumes) {
    auto first = Get(volumes, "volume", {"rbind", "rprivate"}).value();
    EXPECT_EQ(Get(volumes, "volume", {"rbind", "rw", "rprivate", "nosuid"}).value(), first);
    std::set<Volume> different{first};
    for (const std::vector<std::string>& options :
         {std::vector<std::string>{"rbind"}, {"bind"}, {"rbind", "ro"}, {"rbind", "rro"}}) {
      EXPECT_TRUE(different.insert(Get(volumes, "volume", options).value()).second) << options[0];
    }
    const auto file = Get(volumes, "volume/data", {"bind"}).value();
    EXPECT_EQ(Get(volumes, "volume/data", {"bind"}).value(), file);
    EXPECT_EQ(sys::ReadFile(file->path()).value(), "kept");
    EXPECT_EQ(sys::ReadFile(first->path() + "/data").value(), "kept");
  });
}

TEST_F(SharedVolumesTest, GoesWithTheLastAndItsNameIsNeverUsedAgain) {
  WithVolumes([&](SharedVolumes& volumes) {
    auto first = Get(volumes, "volume", {"rbind"}).value();
    auto second = Get(volumes, "volume", {"rbind"}).value();
    const std::string path = first->path();
    first.reset();
    EXPECT_EQ(sys::ReadFile(path + "/data").value(), "kept");
    second.reset();
    EXPECT_FALSE(sys::Exists(path));
    EXPECT_EQ(MountInfo().find(path), std::string::npos);
    EXPECT_NE(Get(volumes, "volume", {"rbind"}).value()->path(), path);
  });
}

TEST_F(SharedVolumesTest, WhatTookTheSourcesPlaceIsAnother) {
  WithVolumes([&](SharedVolumes& volumes) {
    const auto first = Get(volumes, "volume", {"rbind"}).value();
    ASSERT_TRUE(sys::Rename(path("volume"), path("old")));
    ASSERT_TRUE(sys::Mkdir(path("volume")));
    ASSERT_TRUE(sys::WriteFile(path("volume/data"), "new"));
    const auto second = Get(volumes, "volume", {"rbind"}).value();
    EXPECT_NE(first, second);
    EXPECT_EQ(sys::ReadFile(first->path() + "/data").value(), "kept");
    EXPECT_EQ(sys::ReadFile(second->path() + "/data").value(), "new");
  });
}

// What is mounted below a private volume never arrives in the mount that an earlier container has.
TEST_F(SharedVolumesTest, ALaterContainerSeesWhatIsMountedByThen) {
  WithVolumes([&](SharedVolumes& volumes) {
    ASSERT_TRUE(sys::Mkdir(path("volume/below")));
    const auto first = Get(volumes, "volume", {"rbind", "rprivate"}).value();
    const auto flat = Get(volumes, "volume", {"bind", "rprivate"}).value();
    ASSERT_TRUE(sys::Mount("below", path("volume/below"), "tmpfs", 0));
    ASSERT_TRUE(sys::WriteFile(path("volume/below/new"), ""));
    const auto second = Get(volumes, "volume", {"rbind", "rprivate"}).value();
    EXPECT_TRUE(sys::Exists(second->path() + "/below/new"));
    EXPECT_FALSE(sys::Exists(first->path() + "/below/new"));
    EXPECT_EQ(Get(volumes, "volume", {"bind", "rprivate"}).value(), flat);
  });
}

TEST_F(SharedVolumesTest, SeveralAtOnceShareOne) {
  WithVolumes([&](SharedVolumes& volumes) {
    std::vector<Volume> got(8);
    std::vector<std::thread> threads;
    for (Volume& volume : got) {
      // A thread that was made here is in the namespace of the test.
      threads.emplace_back([&] {
        for (int round = 0; round < 50; ++round) {
          volume.reset();
          volume = Get(volumes, "volume", {"rbind"}).value();
          EXPECT_EQ(sys::ReadFile(volume->path() + "/data").value(), "kept");
        }
      });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
    EXPECT_EQ(std::set<Volume>(got.begin(), got.end()).size(), 1U);
  });
}

class IdMappedTest : public SharedVolumesTest {
 protected:
  void SetUp() override {
    SharedVolumesTest::SetUp();
    RequireIdMaps();
  }

  static std::pair<uid_t, gid_t> Owner(const std::string& file) {
    const auto info = sys::LStat(file);
    return info ? std::pair(info->st_uid, info->st_gid) : std::pair(~0U, ~0U);
  }
  static constexpr auto Ids = [](uid_t uid, gid_t gid) { return std::pair(uid, gid); };
};

TEST_F(IdMappedTest, BothWays) {
  WithVolumes([&](SharedVolumes& volumes) {
    ASSERT_TRUE(sys::Chown(path("volume/data"), 7, 8));
    VolumeRequest request = Request("volume", {"bind"});
    request.mount.uid_mappings = {{0, 100000, 1000}};
    request.mount.gid_mappings = {{0, 200000, 1000}};
    const auto mapped = volumes.Get(request).value();
    EXPECT_EQ(Owner(mapped->path()), Ids(100000, 200000));
    EXPECT_EQ(Owner(mapped->path() + "/data"), Ids(100007, 200008));
    ASSERT_TRUE(sys::Chown(mapped->path() + "/data", 100009, 200010));
    EXPECT_EQ(Owner(path("volume/data")), Ids(9, 10));
    EXPECT_EQ(sys::WriteFile(mapped->path() + "/by-root", "").error().errnum(), EOVERFLOW);
    EXPECT_EQ(volumes.Get(request).value(), mapped);
    request.mount.gid_mappings = {{0, 100000, 1000}};
    EXPECT_NE(volumes.Get(request).value(), mapped);
    EXPECT_NE(Get(volumes, "volume", {"bind"}).value(), mapped);
  });
}

TEST_F(IdMappedTest, TheContainersMappingsByTheOptionAlone) {
  WithVolumes([&](SharedVolumes& volumes) {
    ASSERT_TRUE(sys::Mkdir(path("volume/below")));
    ASSERT_TRUE(sys::Mount(path("image"), path("volume/below"), "", MS_BIND));
    VolumeRequest request = Request("volume", {"rbind"});
    request.uid_mappings = {{0, 3000, 10}};
    request.gid_mappings = {{0, 4000, 10}};
    const auto owners = [&](const std::string& option) {
      VolumeRequest asked = request;
      asked.mount.options.push_back(option);
      const auto volume = volumes.Get(asked).value();
      return std::pair(Owner(volume->path()), Owner(volume->path() + "/below"));
    };
    EXPECT_EQ(owners("rw"), std::pair(Ids(0, 0), Ids(0, 0)));
    EXPECT_EQ(owners("idmap"), std::pair(Ids(3000, 4000), Ids(0, 0)));
    EXPECT_EQ(owners("ridmap"), std::pair(Ids(3000, 4000), Ids(3000, 4000)));
    request.mount.uid_mappings = request.mount.gid_mappings = {{0, 5000, 1}};
    EXPECT_EQ(owners("ridmap"), std::pair(Ids(5000, 5000), Ids(5000, 5000)));
  });
}

// QEMU's server of 9p.
TEST_F(IdMappedTest, AServerThatIsRootMakesFilesAndGivesThemAway) {
  WithVolumes(
      [&](SharedVolumes& volumes) {
        VolumeRequest request = Request("volume", {"bind"});
        request.mount.uid_mappings = request.mount.gid_mappings = {{0, 5000, 10}};
        const auto volume = volumes.Get(request).value();
        ASSERT_TRUE(sys::WriteFile(volume->path() + "/new", ""));
        EXPECT_EQ(Owner(path("volume/new")), Ids(4294967294U, 4294967294U));
        ASSERT_TRUE(sys::Chown(volume->path() + "/new", 5003, 5004));
        EXPECT_EQ(Owner(path("volume/new")), Ids(3, 4));
      },
      true);
}

TEST(IdMaps, RootIsAdmittedOnceAndTakesNobodysId) {
  IdMaps maps{{{0, 5000, 10}, {4294967290U, 6000, 5}}, {{7, 0, 1}}};
  maps.AdmitRoot();
  maps.AdmitRoot();
  EXPECT_EQ(maps.Text(), "0 5000 10\n4294967290 6000 5\n4294967289 0 1\n/7 0 1\n");
}

TEST_F(IdMappedTest, WhatCannotBeMappedIsNamed) {
  WithVolumes([&](SharedVolumes& volumes) {
    ASSERT_TRUE(sys::Mount("overlay", path("image"), "overlay", 0,
                           "lowerdir=" + path("volume") + ":" + path("image")));
    VolumeRequest request = Request("image", {"bind"});
    request.mount.uid_mappings = request.mount.gid_mappings = {{0, 5000, 1}};
    const auto refused = volumes.Get(request);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message(), HasSubstr("the file system at " + path("image")));
    EXPECT_THAT(refused.error().message(), HasSubstr("does not support"));
    request.mount.source = path("volume");
    request.mount.uid_mappings = {{0, 5000, 5}, {3, 6000, 5}};
    const auto overlapping = volumes.Get(request);
    ASSERT_FALSE(overlapping);
    EXPECT_THAT(overlapping.error().message(), HasSubstr("id mappings of " + path("volume")));
  });
}

TEST_F(IdMappedTest, TheGuestIsToldNothing) {
  InNamespace([&] {
    auto tree = SharedTree::Create(path("shared"));
    ASSERT_TRUE(tree) << tree.error().message();
    oci::Spec spec;
    spec.mounts.push_back({"/x", "bind", path("volume"), {"rbind", "ridmap", "ro"}});
    spec.mounts[0].uid_mappings = spec.mounts[0].gid_mappings = {{0, 5000, 1}};
    const auto added = tree->Add({}, path("image"), spec);
    ASSERT_TRUE(added) << added.error().message();
    EXPECT_THAT(spec.mounts[0].options, ElementsAre("rbind", "ro"));
    EXPECT_THAT(spec.mounts[0].uid_mappings, IsEmpty());
    EXPECT_THAT(spec.mounts[0].gid_mappings, IsEmpty());
    EXPECT_EQ(Owner(path("shared/volumes/1")), Ids(5000, 5000));
    oci::Spec guest;
    guest.mounts.push_back({"/dev/shm", "bind", "guest:/run/shm/1", {"rbind", "idmap"}});
    const auto refused = tree->Add({}, path("image"), guest);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message(), HasSubstr("mounts: /dev/shm: id mappings"));
  });
}

}  // namespace
}  // namespace bulkhead::shim
