// A guest under TCG whose only program is a probe of the test's own, which tells on the console
// what it sees. Tests are skipped where the kernel or QEMU is missing.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/log.h"
#include "base/spawn_thread.h"
#include "base/sys.h"
#include "base/temp_dir.h"
#include "hypervisor/hypervisor.h"
#include "hypervisor/qemu/qemu_vm.h"

namespace bulkhead::hypervisor {

class VmFixture : public ::testing::Test {
 protected:
  explicit VmFixture(std::string probe) : probe_(std::move(probe)) {}

  void SetUp() override {
    config_.name = "test";
    config_.qemu = EnvOr("BULKHEAD_TEST_QEMU", "/usr/bin/qemu-system-x86_64");
    config_.firmware = "qboot.rom";
    config_.kernel = EnvOr("BULKHEAD_TEST_KERNEL", BULKHEAD_SOURCE_DIR "/build/kernel/vmlinux");
    config_.initrd = dir_.path() + "/image";
    config_.accelerator = Accelerator::kTcg;
    config_.memory_bytes = 256U << 20U;
    config_.runtime_dir = dir_.path();
    config_.hotplug_slots = 31;
    for (const auto& path : {config_.qemu, config_.kernel}) {
      if (!sys::Exists(path)) {
        GTEST_SKIP() << "no " << path;
      }
    }
    const std::string build =
        fmt::format("{}/rootfs/build {} {}", BULKHEAD_SOURCE_DIR, probe_, config_.initrd);
    ASSERT_EQ(std::system(build.c_str()), 0);
    hypervisor_ = *MakeHypervisor("qemu", {spawner_, logger_, timeline_});
  }

  void Start(std::vector<NicConfig> nics = {}) {
    auto vm = hypervisor_->Start(config_, std::move(nics));
    ASSERT_TRUE(vm) << vm.error().message();
    vm_ = std::move(*vm);
    ASSERT_TRUE(Says("<ready>")) << vm_->ConsoleTail();
  }
  bool Says(const std::string& text,
            std::chrono::milliseconds time = std::chrono::milliseconds(30000)) const {
    const auto deadline = std::chrono::steady_clock::now() + time;
    while (vm_->ConsoleTail().find(text) == std::string::npos) {
      if (std::chrono::steady_clock::now() > deadline || vm_->Exit()) {
        return false;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return true;
  }
  std::string Qmp(const char* command) {
    return static_cast<qemu::QemuVm&>(*vm_)
        .qmp()
        .Execute(command, "", std::chrono::milliseconds(5000))
        .value_or("failed");
  }
  size_t OpenFiles() const {
    return sys::ListDirectory(fmt::format("/proc/{}/fd", vm_->pid()))->size();
  }

  TempDir dir_ = *TempDir::Create("/tmp/vm-test-");
  VmConfig config_;
  SpawnThread spawner_;
  Logger logger_{"test", 2, LogFormat::kText, LogLevel::kDebug};
  Timeline timeline_;
  std::unique_ptr<Hypervisor> hypervisor_;
  std::unique_ptr<Vm> vm_;

 private:
  static std::string EnvOr(const char* name, const char* fallback) {
    const char* value = std::getenv(name);
    return value != nullptr ? value : fallback;
  }
  const std::string probe_;
};

}  // namespace bulkhead::hypervisor
