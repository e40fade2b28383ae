#include "shim/storage.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <future>
#include <thread>

#include "base/sys.h"
#include "shim/mount_test_util.h"

namespace bulkhead::shim {
namespace {

class StorageTest : public MountTest {};

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Whoever owns the guest is root in there: what the host makes must not lead out of it.
TEST_F(StorageTest, TheGuestMakesNothingBesideWhatIsShared) {
  InNamespace([&] {
    auto tree = SharedTree::Create(path("shared"));
    ASSERT_TRUE(tree) << tree.error().message();
    oci::Spec spec;
    spec.mounts.push_back({"/data", "bind", path("volume"), {"rbind"}});
    const auto added = tree->Add({}, path("image"), spec);
    ASSERT_TRUE(added) << added.error().message();
    for (const char* folder : {"shared", "shared/1", "shared/volumes"}) {
      const auto link = sys::Symlink("/etc", path(folder) + "/link");
      ASSERT_FALSE(link) << folder;
      EXPECT_EQ(link.error().errnum(), EROFS);
    }
    EXPECT_FALSE(sys::Rename(path("shared/volumes"), path("shared/other")));
    EXPECT_TRUE(sys::WriteFile(path("shared/volumes/1/new"), ""));
    EXPECT_TRUE(sys::WriteFile(path("shared/1/rootfs/new"), ""));
  });
}

TEST_F(StorageTest, SharesRootfsAndBindsAndTakesThemAway) {
  InNamespace([&] {
    auto tree = SharedTree::Create(path("shared"));
    ASSERT_TRUE(tree) << tree.error().message();
    oci::Spec spec;
    spec.mounts.push_back({"/data", "bind", path("volume"), {"rbind", "ro"}});
    spec.mounts.push_back({"/file", "bind", path("volume/data"), {"bind"}});
    spec.mounts.push_back({"/init", "bind", "guest:/init", {"bind", "ro"}});
    spec.mounts.push_back({"/proc", "proc", "proc", {}});
    auto added = tree->Add({}, path("image"), spec);
    ASSERT_TRUE(added) << added.error().message();
    EXPECT_EQ(spec.root.path, "/run/bulkhead/share/1/rootfs");
    EXPECT_EQ(spec.mounts[0].source, "/run/bulkhead/share/volumes/1");
    EXPECT_EQ(spec.mounts[2].source, "/init");
    EXPECT_EQ(spec.mounts[3].source, "proc");
    EXPECT_EQ(sys::ReadFile(path("shared/1/rootfs/hello")).value(), "hi");
    EXPECT_EQ(sys::ReadFile(path("shared/volumes/2")).value(), "kept");
    EXPECT_EQ(sys::WriteFile(path("shared/volumes/1/new"), "").error().errnum(), EROFS);
    added = MakeError(ErrorCode::kInternal, "gone");
    EXPECT_FALSE(sys::Exists(path("shared/1")));
    EXPECT_EQ(sys::ReadFile(path("volume/data")).value(), "kept");
  });
}

// The guest remembers for a second which file a name was.
TEST_F(StorageTest, NoFolderHasTheNameOfAnEarlierOne) {
  InNamespace([&] {
    auto tree = SharedTree::Create(path("shared"));
    ASSERT_TRUE(tree) << tree.error().message();
    oci::Spec first;
    ASSERT_TRUE(tree->Add({}, path("image"), first));
    oci::Spec second;
    const auto added = tree->Add({}, path("image"), second);
    ASSERT_TRUE(added) << added.error().message();
    EXPECT_NE(first.root.path, second.root.path);
  });
}

// A guest that ignores what it is told must still not write.
TEST_F(StorageTest, ARecursivelyReadonlyVolumeIsSoOnTheHost) {
  InNamespace([&] {
    ASSERT_TRUE(sys::Mkdir(path("volume/below")));
    ASSERT_TRUE(sys::Mount("below", path("volume/below"), "tmpfs", 0));
    auto tree = SharedTree::Create(path("shared"));
    ASSERT_TRUE(tree) << tree.error().message();
    oci::Spec spec;
    spec.mounts.push_back({"/all", "bind", path("volume"), {"rbind", "rro"}});
    spec.mounts.push_back({"/top", "bind", path("volume"), {"rbind", "ro"}});
    const auto added = tree->Add({}, path("image"), spec);
    ASSERT_TRUE(added) << added.error().message();
    const auto write = [&](const std::string& name) {
      const auto written = sys::WriteFile(path("shared/volumes/" + name), "");
      return written ? 0 : written.error().errnum();
    };
    EXPECT_EQ(write("1/new"), EROFS);
    EXPECT_EQ(write("1/below/new"), EROFS);
    EXPECT_EQ(write("2/new"), EROFS);
    EXPECT_EQ(write("2/below/new"), 0);
  });
}

// What one made before gets them as copies, with what is true when they are attached.
std::string MountsOfASlave(const std::function<void()>& meanwhile) {
  std::string mounts;
  std::thread([&] {
    const UniqueFd first = sys::Open("/proc/thread-self/ns/mnt", O_RDONLY).value();
    ASSERT_TRUE(sys::Unshare(CLONE_FS | CLONE_NEWNS));
    ASSERT_TRUE(sys::Mount("", "/", "", MS_REC | MS_SLAVE));
    const UniqueFd slave = sys::Open("/proc/thread-self/ns/mnt", O_RDONLY).value();
    ASSERT_TRUE(sys::SetNs(first.get(), CLONE_NEWNS));
    meanwhile();
    ASSERT_TRUE(sys::SetNs(slave.get(), CLONE_NEWNS));
    mounts = MountInfo();
  }).join();
  return mounts;
}

TEST_F(StorageTest, VirtiofsdToldBeforeSeesReadonlyMountsAsSuch) {
  InNamespace([&] {
    auto tree = SharedTree::Create(path("shared"));
    ASSERT_TRUE(tree) << tree.error().message();
    ASSERT_TRUE(sys::Mkdir(path("image/below")));
    ASSERT_TRUE(sys::Mount("below", path("image/below"), "tmpfs", 0));
    std::vector<SharedFolder> folders;
    const std::string seen = MountsOfASlave([&] {
      oci::Spec spec;
      spec.mounts.push_back({"/x", "bind", path("volume"), {"rbind", "ro"}});
      folders.push_back(tree->Add({}, path("image"), spec, -1, true).value());
      const RootfsMount bind{"bind", path("image"), {"rbind", "rw"}};
      const RootfsMount overlay{
          "overlay", "overlay", {"lowerdir=" + path("image") + ":" + path("volume")}};
      for (const RootfsMount& mount : {bind, overlay}) {
        oci::Spec plain;
        folders.push_back(tree->Add({mount}, "", plain, -1, true).value());
      }
      oci::Spec plain;
      folders.push_back(tree->Add({{"bind", path("image"), {"rbind", "ro"}}}, "", plain).value());
    });
    for (const char* name : {"4/rootfs", "1/rootfs", "1/rootfs/below", "volumes/1", "2/rootfs",
                             "2/rootfs/below", "3/rootfs"}) {
      EXPECT_THAT(seen, HasSubstr(path("shared/") + name + " ro")) << name;
    }
    EXPECT_EQ(sys::WriteFile(path("shared/2/rootfs/new"), "").error().errnum(), EROFS);
    EXPECT_EQ(sys::WriteFile(path("shared/3/rootfs/new"), "").error().errnum(), EROFS);
    EXPECT_EQ(sys::ReadFile(path("shared/3/rootfs/data")).value(), "kept");
    EXPECT_TRUE(sys::WriteFile(path("image/new"), "")) << "the engine's own view stays";
    folders.clear();
    EXPECT_THAT(*sys::ListDirectory(path("shared")), ElementsAre("volumes"));
    EXPECT_THAT(*sys::ListDirectory(path("shared/volumes")), IsEmpty());
    EXPECT_FALSE(sys::Exists(path("shared.1")) || sys::Exists(path("shared.2")));
    EXPECT_EQ(MountInfo().find(path("shared/")), std::string::npos);
    (void)sys::Unmount(path("image/below"), MNT_DETACH);
  });
}

// virtiofsd has a mount namespace of its own, which is there before the container is.
TEST_F(StorageTest, WhatIsReadonlyIsSoInANamespaceThatFollows) {
  InNamespace([&] {
    auto tree = SharedTree::Create(path("shared"));
    ASSERT_TRUE(tree) << tree.error().message();
    std::promise<void> is_there;
    std::promise<void> is_shared;
    std::thread follower([&] {
      EXPECT_TRUE(sys::Unshare(CLONE_FS));
      EXPECT_TRUE(EnterOwnMountNamespace());
      is_there.set_value();
      is_shared.get_future().wait();
      for (const char* name : {"volumes/1", "volumes/2", "1/rootfs"}) {
        const auto written = sys::WriteFile(path("shared/") + name + "/new", "");
        EXPECT_EQ(written ? 0 : written.error().errnum(), EROFS) << name;
      }
    });
    is_there.get_future().wait();
    oci::Spec spec;
    spec.mounts.push_back({"/a", "bind", path("volume"), {"rbind", "ro"}});
    spec.mounts.push_back({"/b", "bind", path("volume"), {"rbind", "rro"}});
    const auto added = tree->Add({{"bind", path("image"), {"bind", "ro"}}}, "", spec);
    EXPECT_TRUE(added) << added.error().message();
    is_shared.set_value();
    follower.join();
  });
}

TEST_F(StorageTest, WhatIsMountedLaterArrivesUnlessItIsPrivate) {
  InNamespace([&] {
    ASSERT_TRUE(sys::Mount(path("volume"), path("volume"), "", MS_BIND));
    ASSERT_TRUE(sys::Mount("", path("volume"), "", MS_SHARED));
    ASSERT_TRUE(sys::Mkdir(path("volume/below")));
    auto tree = SharedTree::Create(path("shared"));
    ASSERT_TRUE(tree) << tree.error().message();
    oci::Spec spec;
    spec.mounts.push_back({"/slave", "bind", path("volume"), {"rbind", "rslave"}});
    spec.mounts.push_back({"/usual", "bind", path("volume"), {"rbind"}});
    spec.mounts.push_back({"/private", "bind", path("volume"), {"rbind", "rprivate"}});
    const auto added = tree->Add({}, path("image"), spec);
    ASSERT_TRUE(added) << added.error().message();
    ASSERT_TRUE(sys::Mount("late", path("volume/below"), "tmpfs", 0));
    ASSERT_TRUE(sys::WriteFile(path("volume/below/new"), ""));
    EXPECT_EQ(spec.mounts[0].source, spec.mounts[1].source) << "the same, said in two ways";
    EXPECT_TRUE(sys::Exists(path("shared/volumes/1/below/new")));
    EXPECT_FALSE(sys::Exists(path("shared/volumes/2/below/new")));
  });
}

TEST_F(StorageTest, AFailureLeavesNothingMounted) {
  InNamespace([&] {
    auto tree = SharedTree::Create(path("shared"));
    ASSERT_TRUE(tree);
    const std::string before = MountInfo();
    oci::Spec spec;
    spec.mounts.push_back({"/data", "bind", path("volume"), {"rbind"}});
    spec.mounts.push_back({"/gone", "bind", path("missing"), {"rbind"}});
    const std::vector<RootfsMount> broken{{"bind", path("image"), {"rbind"}},
                                          {"overlay", "overlay", {"lowerdir=" + path("missing")}}};
    EXPECT_FALSE(tree->Add(broken, "", spec, -1, true));
    EXPECT_EQ(MountInfo(), before);
    EXPECT_FALSE(sys::Exists(path("shared.1")));
    const auto added = tree->Add({}, path("image"), spec);
    ASSERT_FALSE(added);
    EXPECT_THAT(added.error().message(), HasSubstr("mounts: /gone: " + path("missing")));
    EXPECT_EQ(MountInfo(), before);
    EXPECT_THAT(*sys::ListDirectory(path("shared")), ElementsAre("volumes"));
    EXPECT_THAT(*sys::ListDirectory(path("shared/volumes")), IsEmpty());
  });
}

TEST_F(StorageTest, HostDevicesAreRefused) {
  InNamespace([&] {
    auto tree = SharedTree::Create(path("shared"));
    ASSERT_TRUE(tree);
    oci::Spec spec;
    spec.mounts.push_back({"/dev/x", "bind", "/dev/null", {"bind"}});
    const auto added = tree->Add({}, path("image"), spec);
    ASSERT_FALSE(added);
    EXPECT_EQ(added.error().code(), ErrorCode::kUnimplemented);
  });
}

TEST_F(StorageTest, NothingIsSeenOutside) {
  const std::string before = MountInfo();
  InNamespace([&] {
    auto tree = SharedTree::Create(path("shared"));
    ASSERT_TRUE(tree);
    oci::Spec spec;
    ASSERT_TRUE(tree->Add({}, path("image"), spec));
  });
  EXPECT_EQ(MountInfo(), before);
}

}  // namespace
}  // namespace bulkhead::shim
