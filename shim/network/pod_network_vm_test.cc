// From the far end of a pod's veth into a real guest and back, under TCG. Skipped where the kernel
// or QEMU is missing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>

#include "hypervisor/vm_fixture.h"
#include "shim/network/pod_network.h"
#include "shim/network/test_netns.h"

namespace bulkhead::shim {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;

class PodNetworkVm : public hypervisor::VmFixture {
 protected:
  PodNetworkVm() : VmFixture(BULKHEAD_NIC_PROBE) {}

  void SetUp() override {
    auto pair = TestNetnsPair::Create();
    if (!pair) {
      GTEST_SKIP() << pair.error().message();
    }
    netns_.emplace(std::move(pair->near));
    far_.emplace(std::move(pair->far));
    network_ = std::move(*PodNetwork::Open(netns_->Dup(), NetworkModel::kTrafficControl, logger_));
    VmFixture::SetUp();
  }
  void Veth(const std::string& name, int number) {
    ASSERT_TRUE(
        netns_->Ip(fmt::format("link add {0} address 02:00:00:00:00:{1:02x} type veth peer "
                               "name {0} netns {2}",
                               name, number, far_->path())));
    ASSERT_TRUE(far_->Ip("link set " + name + " up"));
    ASSERT_TRUE(netns_->Ip("link set " + name + " up"));
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

  std::optional<TestNetns> netns_;
  std::optional<TestNetns> far_;
  std::unique_ptr<PodNetwork> network_;
};

TEST_F(PodNetworkVm, CarriesFrames) {
  Veth("eth0", 1);
  Start(*network_->BootNics(2));
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
