// Drives plugged into real guests under TCG. Skipped where the kernel or QEMU is missing.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/loop.h>
#include <signal.h>
#include <sys/ioctl.h>

#include <thread>

#include "hypervisor/vm_fixture.h"

namespace bulkhead::hypervisor {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr size_t kSize = 8192;

// A loop device of the file, which goes with its last descriptor. Read-write.
Result<UniqueFd> LoopDevice(const std::string& path) {
  const UniqueFd control = TRY(sys::Open("/dev/loop-control", O_RDWR));
  loop_config config{};
  const UniqueFd file = TRY(sys::Open(path, O_RDWR));
  config.fd = static_cast<uint32_t>(file.get());
  config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
  for (int attempt = 0; attempt < 10; ++attempt) {  // another may be faster
    const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
    TRY(sys::CheckCall(number, "LOOP_CTL_GET_FREE"));
    UniqueFd device = TRY(sys::Open(fmt::format("/dev/loop{}", number), O_RDWR));
    if (::ioctl(device.get(), LOOP_CONFIGURE, &config) == 0) {
      return device;
    }
  }
  return MakeError(ErrorCode::kUnavailable, "no loop device");
}

class DriveVm : public VmFixture {
 protected:
  DriveVm() : VmFixture(BULKHEAD_DRIVE_PROBE) {}

  // The image begins with the serial.
  std::string Image(const std::string& serial) {
    const std::string path = dir_.path() + "/" + serial + ".img";
    std::string content = "of " + serial;
    content.resize(kSize, '.');
    EXPECT_TRUE(sys::WriteFile(path, content));
    return path;
  }
  DriveConfig Drive(const std::string& serial, bool read_only = true) {
    return {serial, *sys::Open(Image(serial), read_only ? O_RDONLY : O_RDWR), read_only};
  }
  static std::string Seen(const std::string& serial, bool read_only = true) {
    return fmt::format("<drive {} {} sectors={} head={:.<16}{}>", serial, read_only ? "ro" : "rw",
                       kSize / 512, ("of " + serial).substr(0, 16), read_only ? "" : " written");
  }
};

TEST_F(DriveVm, ComesAndGoes) {
  Start();
  const size_t files = OpenFiles();
  const std::string serial = "twenty-bytes-long-20";
  const auto begin = steady_clock::now();
  ASSERT_TRUE(vm_->AttachDrive(Drive(serial, false)));
  ASSERT_TRUE(Says(Seen(serial, false))) << vm_->ConsoleTail();
  const auto seen = steady_clock::now();
  EXPECT_THAT(*sys::ReadFile(dir_.path() + "/" + serial + ".img"),
              HasSubstr("written by the guest to " + serial));
  EXPECT_THAT(Qmp("query-named-block-nodes"), HasSubstr("/dev/fdset/"));
  EXPECT_THAT(Qmp("query-named-block-nodes"), Not(HasSubstr(dir_.path())));
  EXPECT_EQ(vm_->AttachDrive(Drive(serial)).error().message(),
            "drive " + serial + ": the VM has one of this name");
  const auto detach = steady_clock::now();
  const auto detached = vm_->DetachDrive(serial);
  ASSERT_TRUE(detached) << detached.error().message();
  const auto end = steady_clock::now();
  EXPECT_TRUE(Says("<gone vda>"));
  EXPECT_EQ(Qmp("query-named-block-nodes"), "[]");
  EXPECT_EQ(Qmp("query-fdsets"), "[]");
  EXPECT_EQ(OpenFiles(), files);
  EXPECT_EQ(vm_->DetachDrive(serial).error().code(), ErrorCode::kNotFound);
  // The place and the serial are free again.
  ASSERT_TRUE(vm_->AttachDrive(Drive(serial)));
  EXPECT_TRUE(Says(Seen(serial))) << vm_->ConsoleTail();
  using std::chrono::duration_cast;
  RecordProperty("seen_ms", static_cast<int>(duration_cast<milliseconds>(seen - begin).count()));
  RecordProperty("detach_ms", static_cast<int>(duration_cast<milliseconds>(end - detach).count()));
}

TEST_F(DriveVm, ServesABlockDevice) {
  const std::string path = Image("loop");
  auto device = LoopDevice(path);
  if (!device) {
    GTEST_SKIP() << device.error().message();
  }
  Start();
  ASSERT_TRUE(vm_->AttachDrive({"loop", std::move(*device), false}));
  ASSERT_TRUE(Says(Seen("loop", false))) << vm_->ConsoleTail();
  EXPECT_THAT(*sys::ReadFile(path), HasSubstr("written by the guest to loop"));
  EXPECT_THAT(Qmp("query-named-block-nodes"), HasSubstr(R"("drv":"host_device")"));
  EXPECT_TRUE(vm_->DetachDrive("loop"));
}

TEST_F(DriveVm, ManyFromManyThreads) {
  constexpr int kThreads = 8;
  constexpr int kEach = 11;
  config_.hotplug_slots = kThreads * kEach;  // 88: three bridges, 93 places
  Start();
  const auto in_threads = [&](const auto& work) {
    std::vector<std::thread> threads;
    threads.reserve(kThreads);
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&work, i] {
        for (int j = 0; j < kEach; ++j) {
          work(fmt::format("drive-{}-{}", i, j), i);
        }
      });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
  };
  in_threads([&](const std::string& serial, int) {
    const auto attached = vm_->AttachDrive(Drive(serial, false));
    EXPECT_TRUE(attached) << attached.error().message();
  });
  // Each has its own content behind its own serial, so that no descriptor was mixed up.
  in_threads(
      [&](const std::string& serial, int) { EXPECT_TRUE(Says(Seen(serial, false))) << serial; });
  in_threads([&](const std::string& serial, int thread) {
    if (thread % 2 == 0) {
      const auto detached = vm_->DetachDrive(serial);
      EXPECT_TRUE(detached) << detached.error().message();
    } else {
      const auto attached = vm_->AttachDrive(Drive("more" + serial));
      // Five places were left, and others come free meanwhile.
      EXPECT_TRUE(attached || attached.error().code() == ErrorCode::kResourceExhausted)
          << attached.error().message();
    }
  });
  EXPECT_FALSE(vm_->Exit());
}

TEST_F(DriveVm, PlacesAreCounted) {
  Start();
  for (uint32_t i = 0; i < config_.hotplug_slots; ++i) {
    const auto attached = vm_->AttachDrive(Drive(fmt::format("d{}", i)));
    EXPECT_TRUE(attached) << attached.error().message();
  }
  EXPECT_EQ(vm_->AttachDrive(Drive("one-more")).error().message(),
            "drive one-more: all 31 places of the VM are taken");
  for (uint32_t i = 0; i < config_.hotplug_slots; ++i) {
    EXPECT_TRUE(Says(Seen(fmt::format("d{}", i)))) << i;
  }
  config_.hotplug_slots = 0;
  Start();
  EXPECT_EQ(vm_->AttachDrive(Drive("none")).error().code(), ErrorCode::kResourceExhausted);
  config_.hotplug_slots = 249;
  EXPECT_EQ(hypervisor_->Start(config_, {}).error().message(), "hotplug_slots 249: at most 248");
}

TEST_F(DriveVm, GuestThatDoesNotLetGo) {
  config_.kernel_parameters = "acpi=off";
  Start();
  ASSERT_TRUE(vm_->AttachDrive(Drive("held")));
  const auto detached = vm_->DetachDrive("held");
  ASSERT_FALSE(detached);
  EXPECT_EQ(detached.error().code(), ErrorCode::kDeadlineExceeded);
  EXPECT_THAT(detached.error().message(), HasSubstr("drive held: the guest did not let go of it"));
  EXPECT_EQ(vm_->AttachDrive(Drive("held")).error().code(), ErrorCode::kAlreadyExists);
  // An end in the midst of a wait: the reason, at once.
  std::thread killer([&] {
    std::this_thread::sleep_for(milliseconds(300));
    ASSERT_TRUE(sys::Kill(vm_->pid(), SIGKILL));
  });
  const auto begin = steady_clock::now();
  const auto again = vm_->DetachDrive("held");
  EXPECT_LT(steady_clock::now() - begin, milliseconds(5000));
  killer.join();
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), ErrorCode::kUnavailable);
  EXPECT_THAT(again.error().message(), HasSubstr("drive held: QEMU was killed by signal 9"));
  EXPECT_THAT(vm_->AttachDrive(Drive("late")).error().message(),
              HasSubstr("drive late: QEMU was killed by signal 9"));
}

TEST_F(DriveVm, TwoWritersOfOneFileAreRefused) {
  Start();
  const std::string path = Image("shared");
  ASSERT_TRUE(vm_->AttachDrive({"first", *sys::Open(path, O_RDWR), false}));
  const auto second = vm_->AttachDrive({"second", *sys::Open(path, O_RDWR), false});
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message(), HasSubstr("drive second: QMP "));
  EXPECT_THAT(second.error().message(), HasSubstr("lock"));
  EXPECT_TRUE(vm_->AttachDrive(Drive("second")));
}

}  // namespace
}  // namespace bulkhead::hypervisor
