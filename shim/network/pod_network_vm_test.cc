// From the far end of a pod's veth into a real guest and back, under TCG. Skipped where the kernel
// or QEMU is missing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>

#include <cstdlib>

#include "base/temp_dir.h"
#include "shim/network/pod_network.h"
#include "shim/network/test_netns.h"

namespace bulkhead::shim {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using ::testing::ElementsAre;

std::string EnvOr(const char* name, const char* fallback) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : fallback;
}

class PodNetworkVm : public ::testing::Test {
 protected:
  void SetUp() override {
    config_.name = "pod-network-test";
    config_.qemu = EnvOr("BULKHEAD_TEST_QEMU", "/usr/bin/qemu-system-x86_64");
    config_.firmware = "qboot.rom";
    config_.kernel = EnvOr("BULKHEAD_TEST_KERNEL", BULKHEAD_SOURCE_DIR "/build/kernel/vmlinux");
    config_.initrd = dir_.path() + "/image";
    config_.accelerator = hypervisor::Accelerator::kTcg;
    config_.memory_bytes = 256U << 20U;
    config_.runtime_dir = dir_.path();
    config_.hotplug_slots = 31;
    for (const auto& path : {config_.qemu, config_.kernel}) {
      if (!sys::Exists(path)) {
        GTEST_SKIP() << "no " << path;
      }
    }
    auto netns = TestNetns::Create();
    if (!netns || !netns->Ip("-V > /dev/null")) {
      GTEST_SKIP() << (netns ? "no ip(8)" : netns.error().message());
    }
    netns_.emplace(std::move(*netns));
    far_.emplace(*TestNetns::Create());
    const std::string build =
        BULKHEAD_SOURCE_DIR "/rootfs/build " BULKHEAD_NIC_PROBE " " + config_.initrd;
    ASSERT_EQ(std::system(build.c_str()), 0);
    network_ = std::move(*PodNetwork::Open(netns_->Dup(), logger_));
  }
  void Veth(const std::string& name, int number) {
    ASSERT_TRUE(
        netns_->Ip(fmt::format("link add {0} address 02:00:00:00:00:{1:02x} type veth peer "
                               "name {0} netns {2}",
                               name, number, far_->path())));
    ASSERT_TRUE(far_->Ip("link set " + name + " up"));
    ASSERT_TRUE(netns_->Ip("link set " + name + " up"));
  }
  bool Says(const std::string& text) {
    const auto deadline = steady_clock::now() + milliseconds(30000);
    while (vm_->ConsoleTail().find(text) == std::string::npos) {
      if (steady_clock::now() > deadline || vm_->Exit()) {
        return false;
      }
      std::this_thread::sleep_for(milliseconds(5));
    }
    return true;
  }
  // A frame goes from the far end to the guest, which sends it back.
  bool Echoes(const std::string& name, char number) {
    const UniqueFd far = *far_->Frames(name, ETH_P_802_EX1);
    const std::string guest = std::string("\x02\0\0\0\0", 5) + number;
    const std::string us = std::string("\x02\0\0\0\xaa", 5) + number;
    const std::string rest = "\x88\xb5" + std::string(1500, number + 'a');
    return sys::WriteAll(far.get(), guest + us + rest) &&
           NextFrame(far.get(), milliseconds(10000)) == us + guest + rest;
  }
  std::vector<std::string> Refresh() {
    const auto network = network_->Refresh(*vm_);
    EXPECT_TRUE(network) << network.error().message();
    std::vector<std::string> names;
    for (int i = 0; network && i < network->interfaces_size(); ++i) {
      names.push_back(network->interfaces(i).name());
    }
    return names;
  }

  TempDir dir_ = *TempDir::Create("/tmp/pod-network-vm-test-");
  hypervisor::VmConfig config_;
  SpawnThread spawner_;
  Logger logger_{"test", 2, LogFormat::kText, LogLevel::kDebug};
  Timeline timeline_;
  std::optional<TestNetns> netns_;
  std::optional<TestNetns> far_;
  std::unique_ptr<PodNetwork> network_;
  std::unique_ptr<hypervisor::Hypervisor> hypervisor_;
  std::unique_ptr<hypervisor::Vm> vm_;
};

TEST_F(PodNetworkVm, CarriesFrames) {
  hypervisor_ = *hypervisor::MakeHypervisor("qemu", {spawner_, logger_, timeline_});
  Veth("eth0", 1);
  auto vm = hypervisor_->Start(config_, *network_->BootNics());
  ASSERT_TRUE(vm) << vm.error().message();
  vm_ = std::move(*vm);
  ASSERT_TRUE(Says("<ready>")) << vm_->ConsoleTail();
  ASSERT_TRUE(Says("<nic 02:00:00:00:00:01 mtu=1500>")) << vm_->ConsoleTail();
  EXPECT_TRUE(Echoes("eth0", 1));
  // One that comes later.
  Veth("net1", 2);
  EXPECT_THAT(Refresh(), ElementsAre("eth0", "net1"));
  ASSERT_TRUE(Says("<nic 02:00:00:00:00:02 mtu=1500>")) << vm_->ConsoleTail();
  EXPECT_TRUE(Echoes("net1", 2));
  // The first gets another address; its tap is free again only when the guest has let go of it.
  ASSERT_TRUE(netns_->Ip("link set eth0 address 02:00:00:00:00:03"));
  EXPECT_THAT(Refresh(), ElementsAre("eth0", "net1"));
  ASSERT_TRUE(Says("<nic 02:00:00:00:00:03 mtu=1500>")) << vm_->ConsoleTail();
  EXPECT_TRUE(Echoes("eth0", 3));
  ASSERT_TRUE(netns_->Ip("link del net1"));
  EXPECT_THAT(Refresh(), ElementsAre("eth0"));
  EXPECT_TRUE(Says("<gone eth1>")) << vm_->ConsoleTail();
  EXPECT_TRUE(Echoes("eth0", 3));
  // What ends first is of no matter.
  network_.reset();
  EXPECT_FALSE(vm_->Exit());
  vm_.reset();
  EXPECT_FALSE(netns_->Ip("link show | grep -q bhtap"));
}

}  // namespace
}  // namespace bulkhead::shim
