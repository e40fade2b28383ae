// For tests that mount.
#pragma once

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <thread>

#include "base/sys.h"
#include "base/temp_dir.h"
#include "shim/mount_tree.h"
#include "shim/storage.h"

namespace bulkhead::shim {

inline std::string MountInfo() { return sys::ReadFile("/proc/thread-self/mountinfo").value(); }

// Runs in a mount namespace of its own thread, so that a failing test leaves nothing mounted.
class MountTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) {
      GTEST_SKIP() << "mounting needs root";
    }
    ASSERT_TRUE(sys::Mkdir(folder_.path() + "/shared"));
    ASSERT_TRUE(sys::Mkdir(folder_.path() + "/image"));
    ASSERT_TRUE(sys::WriteFile(folder_.path() + "/image/hello", "hi"));
    ASSERT_TRUE(sys::Mkdir(folder_.path() + "/volume"));
    ASSERT_TRUE(sys::WriteFile(folder_.path() + "/volume/data", "kept"));
  }

  // Skips where the file system of the folder cannot be id-mapped.
  void RequireIdMaps() {
    if (IsSkipped()) {
      return;
    }
    const UniqueFd tree = CopyTree(folder_.path(), false).value();
    if (const auto set = SetIdMaps(tree, false, {{{0, 100000, 1}}, {{0, 100000, 1}}}, "/tmp");
        !set) {
      GTEST_SKIP() << set.error().message();
    }
  }

  void InNamespace(const std::function<void()>& body) {
    std::thread([&] {
      ASSERT_TRUE(sys::Unshare(CLONE_FS));
      ASSERT_TRUE(EnterOwnMountNamespace());
      body();
    }).join();
  }

  std::string path(const std::string& name) const { return folder_.path() + "/" + name; }

  TempDir folder_ = TempDir::Create("/tmp/bulkhead-storage-test.").value();
};

}  // namespace bulkhead::shim
