// Real guests under TCG. Skipped where the kernel, QEMU, virtiofsd or the agent is missing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>

#include <cstdlib>
#include <iostream>

#include "base/sys.h"
#include "base/temp_dir.h"
#include "hypervisor/hypervisor.h"
#include "hypervisor/qemu/qemu_vm.h"

namespace bulkhead::hypervisor {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using ::testing::HasSubstr;

std::string EnvOr(const char* name, const char* fallback) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : fallback;
}

class HypervisorVm : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string agent = EnvOr("BULKHEAD_TEST_AGENT", BULKHEAD_AGENT);
    config_.name = "hypervisor-test";
    config_.qemu = EnvOr("BULKHEAD_TEST_QEMU", "/usr/bin/qemu-system-x86_64");
    config_.virtiofsd = "/usr/lib/qemu/virtiofsd";
    config_.firmware = "qboot.rom";
    config_.kernel = EnvOr("BULKHEAD_TEST_KERNEL", BULKHEAD_SOURCE_DIR "/build/kernel/vmlinux");
    config_.initrd = dir_.path() + "/image";
    config_.accelerator = Accelerator::kTcg;
    config_.memory_bytes = 512U << 20U;
    config_.runtime_dir = dir_.path();
    for (const auto& path : {agent, config_.qemu, config_.kernel, config_.virtiofsd}) {
      if (!sys::Exists(path)) {
        GTEST_SKIP() << "no " << path;
      }
    }
    if (::geteuid() != 0) {
      GTEST_SKIP() << "virtiofsd needs root";
    }
    const std::string build = BULKHEAD_SOURCE_DIR "/rootfs/build " + agent + " " + config_.initrd;
    ASSERT_EQ(std::system(build.c_str()), 0);
    ASSERT_TRUE(sys::Mkdir(share_));
    config_.shares = {{"share", share_, ShareConfig::Transport::kVirtioFs}};
    hypervisor_ = *MakeHypervisor("qemu", {spawner_, logger_, timeline_});
  }

  std::unique_ptr<Vm> Start() {
    auto vm = hypervisor_->Start(config_, {});
    EXPECT_TRUE(vm) << (vm ? "" : vm.error().message());
    return vm ? std::move(*vm) : nullptr;
  }
  // The agent speaks first: HTTP/2's SETTINGS.
  static bool AgentSpeaks(Vm& vm) {
    auto agent = vm.ConnectAgent(steady_clock::now() + milliseconds(20000));
    return agent && *sys::PollOne(agent->get(), POLLIN, milliseconds(20000));
  }
  static std::string Reason(Vm& vm) {
    EXPECT_TRUE(*sys::PollOne(vm.exit_fd(), POLLIN, milliseconds(20000)));
    const auto exit = vm.Exit();
    return exit ? exit->reason : "none\n" + vm.ConsoleTail();
  }

  TempDir dir_ = *TempDir::Create("/tmp/hypervisor-test-");
  const std::string share_ = dir_.path() + "/share";
  VmConfig config_;
  SpawnThread spawner_;
  Logger logger_{"test", 2, LogFormat::kText, LogLevel::kDebug};
  Timeline timeline_;
  std::unique_ptr<Hypervisor> hypervisor_;
};

TEST_F(HypervisorVm, BootsAndIsKilled) {
  auto vm = Start();
  ASSERT_TRUE(vm);
  ASSERT_TRUE(AgentSpeaks(*vm)) << vm->ConsoleTail();
  timeline_.Mark("agent speaks");
  std::cout << timeline_.ToText();
  const auto status =
      static_cast<qemu::QemuVm&>(*vm).qmp().Execute("query-status", "", milliseconds(5000));
  EXPECT_THAT(status.value_or("none"), HasSubstr("running"));
  EXPECT_FALSE(vm->Exit());
  vm->Kill();
  EXPECT_EQ(Reason(*vm), "the VM was killed on request");
}

TEST_F(HypervisorVm, ProcessesEndWithTheVm) {
  auto vm = Start();
  ASSERT_TRUE(vm);
  const pid_t pid = vm->pid();
  const pid_t daemon = static_cast<qemu::QemuVm&>(*vm).daemons()[0].child.pid();
  vm.reset();
  EXPECT_FALSE(sys::Kill(pid, 0));
  EXPECT_FALSE(sys::Kill(daemon, 0));
}

TEST_F(HypervisorVm, TellsOfPanic) {
  config_.kernel_parameters = "init=/nonexistent rdinit=/nonexistent";
  auto vm = Start();
  ASSERT_TRUE(vm);
  EXPECT_THAT(Reason(*vm), HasSubstr("the guest kernel panicked: Kernel panic - not syncing"));
}

TEST_F(HypervisorVm, TellsOfDeaths) {
  auto vm = Start();
  ASSERT_TRUE(vm);
  ASSERT_TRUE(sys::Kill(vm->pid(), SIGKILL));
  EXPECT_THAT(Reason(*vm), HasSubstr("QEMU was killed by signal 9"));
  vm = Start();
  ASSERT_TRUE(AgentSpeaks(*vm));
  ASSERT_TRUE(sys::Kill(static_cast<qemu::QemuVm&>(*vm).daemons()[0].child.pid(), SIGKILL));
  EXPECT_THAT(Reason(*vm), HasSubstr("virtiofsd for " + share_ + " was killed by signal 9"));
  config_.firmware = "no-such.rom";
  vm = Start();
  EXPECT_THAT(Reason(*vm), HasSubstr("no-such.rom"));
}

TEST_F(HypervisorVm, RefusesClearly) {
  const auto error = [&](const VmConfig& config) {
    return hypervisor_->Start(config, {}).error().message();
  };
  VmConfig config = config_;
  config.kernel = "/x/vmlinux";
  EXPECT_EQ(error(config), "guest kernel /x/vmlinux: No such file or directory");
  config = config_;
  config.qemu = "/x/qemu";
  EXPECT_EQ(error(config), "QEMU /x/qemu: No such file or directory");
  config = config_;
  config.memory_bytes = 1ULL << 50U;
  EXPECT_THAT(error(config), HasSubstr("MiB of memory, the host has"));
  EXPECT_EQ(MakeHypervisor("libvirt", {spawner_, logger_, timeline_}).error().code(),
            ErrorCode::kUnimplemented);
}

// A mount made after the start must reach the daemon's own mount namespace.
TEST_F(HypervisorVm, LaterMountsArrive) {
  ASSERT_TRUE(sys::Mkdir(share_ + "/late"));
  ASSERT_TRUE(sys::Mount(share_, share_, "", MS_BIND));
  ASSERT_TRUE(sys::Mount("", share_, "", MS_SHARED));
  {
    auto vm = Start();
    ASSERT_TRUE(AgentSpeaks(*vm));
    EXPECT_TRUE(sys::Mount("late-one", share_ + "/late", "tmpfs", 0));
    const pid_t outer = static_cast<qemu::QemuVm&>(*vm).daemons()[0].child.pid();
    const std::string inner =
        *sys::ReadFile(fmt::format("/proc/{}/task/{}/children", outer, outer));
    const auto mounts = sys::ReadFile("/proc/" + inner.substr(0, inner.find(' ')) + "/mountinfo");
    EXPECT_THAT(mounts.value_or("none: " + inner), HasSubstr(" /late "));
    EXPECT_TRUE(sys::Unmount(share_ + "/late", MNT_DETACH));
  }
  EXPECT_TRUE(sys::Unmount(share_, MNT_DETACH));
}

}  // namespace
}  // namespace bulkhead::hypervisor
