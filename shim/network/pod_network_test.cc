#include "shim/network/pod_network.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>

#include "hypervisor/fake.h"
#include "shim/network/test_netns.h"

namespace bulkhead::shim {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class PodNetworkTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto pair = TestNetnsPair::Create();
    if (!pair) {
      GTEST_SKIP() << pair.error().message();
    }
    netns_.emplace(std::move(pair->near));
    far_.emplace(std::move(pair->far));
    network_ = std::move(*PodNetwork::Open(netns_->Dup(), logger_));
  }
  void TearDown() override { network_.reset(); }
  void Veth(const std::string& name, int number) {
    ASSERT_TRUE(
        netns_->Ip(fmt::format("link add {0} address 02:00:00:00:00:{1:02x} type veth peer "
                               "name {0} netns {2}",
                               name, number, far_->path())));
    ASSERT_TRUE(far_->Ip("link set " + name + " up"));
    ASSERT_TRUE(netns_->Ip("link set " + name + " up"));
  }
  // The names of what the guest is told of.
  std::vector<std::string> Refresh() {
    const auto network = network_->Refresh(vm_);
    EXPECT_TRUE(network) << network.error().message();
    std::vector<std::string> names;
    for (int i = 0; network && i < network->interfaces_size(); ++i) {
      names.push_back(network->interfaces(i).name());
    }
    return names;
  }
  bool Redirected(const std::string& name) {
    return InNetns(netns_->fd(),
                   [&]() -> Status {
                     const std::string command = "tc filter show dev " + name +
                                                 " ingress | grep -q 'Redirect to device bhtap'";
                     return std::system(command.c_str()) == 0
                                ? Status()
                                : MakeError(ErrorCode::kNotFound, "none");
                   })
        .has_value();
  }

  Logger logger_{"test", 2, LogFormat::kText, LogLevel::kDebug};
  std::optional<TestNetns> netns_;
  std::optional<TestNetns> far_;
  std::shared_ptr<hypervisor::FakeGuest> guest_ =
      std::make_shared<hypervisor::FakeGuest>(UniqueFd());
  hypervisor::FakeVm vm_{guest_};
  std::unique_ptr<PodNetwork> network_;
};

TEST_F(PodNetworkTest, NeverTheHosts) {
  const auto own = PodNetwork::Open(*sys::Open("/proc/self/ns/net", O_RDONLY), logger_);
  ASSERT_FALSE(own);
  EXPECT_EQ(own.error().code(), ErrorCode::kInvalidArgument);
  EXPECT_FALSE(PodNetwork::Open(UniqueFd(), logger_));
  EXPECT_FALSE(PodNetwork::Open(*sys::Open("/dev/null", O_RDONLY), logger_));
}

TEST_F(PodNetworkTest, InterfacesComeChangeAndGo) {
  EXPECT_THAT(Refresh(), IsEmpty());
  Veth("eth0", 1);
  EXPECT_THAT(Refresh(), ElementsAre("eth0"));
  EXPECT_THAT(guest_->nics(), ElementsAre("02:00:00:00:00:01"));
  EXPECT_TRUE(Redirected("eth0"));
  Veth("net1", 2);
  EXPECT_THAT(Refresh(), ElementsAre("eth0", "net1"));
  EXPECT_THAT(Refresh(), ElementsAre("eth0", "net1"));  // the same again
  EXPECT_THAT(guest_->nics(), ElementsAre("02:00:00:00:00:01", "02:00:00:00:00:02"));
  // A new name is the agent's affair, a new address a new NIC.
  ASSERT_TRUE(netns_->Ip("link set net1 down name eth1"));
  ASSERT_TRUE(netns_->Ip("link set eth1 up"));
  EXPECT_THAT(Refresh(), ElementsAre("eth0", "eth1"));
  ASSERT_TRUE(netns_->Ip("link set eth0 address 02:00:00:00:00:03"));
  EXPECT_THAT(Refresh(), ElementsAre("eth0", "eth1"));
  EXPECT_THAT(guest_->nics(), ElementsAre("02:00:00:00:00:02", "02:00:00:00:00:03"));
  EXPECT_TRUE(Redirected("eth0"));
  ASSERT_TRUE(netns_->Ip("link set eth1 mtu 1200"));
  EXPECT_THAT(Refresh(), ElementsAre("eth0", "eth1"));
  EXPECT_THAT(guest_->nics(), ElementsAre("02:00:00:00:00:03", "02:00:00:00:00:02"));
  ASSERT_TRUE(netns_->Ip("link del eth0"));
  EXPECT_THAT(Refresh(), ElementsAre("eth1"));
  EXPECT_THAT(guest_->nics(), ElementsAre("02:00:00:00:00:02"));
}

TEST_F(PodNetworkTest, StartsWithWhatIsThere) {
  Veth("eth0", 1);
  Veth("net1", 2);
  for (int i = 0; i < 2; ++i) {  // the second VM after the first failed
    const auto nics = network_->BootNics();
    ASSERT_TRUE(nics) << nics.error().message();
    ASSERT_EQ(nics->size(), 2U);
    EXPECT_EQ((*nics)[0].mac, (hypervisor::MacAddress{2, 0, 0, 0, 0, 1}));
    EXPECT_EQ((*nics)[0].mtu, 1500U);
    EXPECT_TRUE(hypervisor::CheckNic((*nics)[1]));
  }
  // What the VM started with is not plugged in again, but taken out when it goes.
  auto nics = *network_->BootNics();
  for (auto& nic : nics) {
    ASSERT_TRUE(guest_->AttachNic(std::move(nic)));
  }
  EXPECT_THAT(Refresh(), ElementsAre("eth0", "net1"));
  ASSERT_TRUE(netns_->Ip("link del eth0"));
  EXPECT_THAT(Refresh(), ElementsAre("net1"));
  EXPECT_THAT(guest_->nics(), ElementsAre("02:00:00:00:00:02"));
}

TEST_F(PodNetworkTest, CarriesFrames) {
  Veth("eth0", 1);
  auto nics = *network_->BootNics();
  const UniqueFd far = *far_->Frames("eth0", ETH_P_802_EX1);
  std::string frame("\x02\0\0\0\0\1\x02\0\0\0\0\2\x88\xb5 hello", 20);
  frame.resize(ETH_ZLEN, '.');
  ASSERT_TRUE(sys::WriteAll(far.get(), frame));
  const int tap = std::get<hypervisor::TapBackend>(nics.at(0).backend).queues.at(0).get();
  std::string seen = NextFrame(tap, milliseconds(2000));
  // The far stack's own IPv6 greetings may come first.
  while (!seen.empty() && seen.find("hello") == std::string::npos) {
    seen = NextFrame(tap, milliseconds(2000));
  }
  EXPECT_THAT(seen, HasSubstr(frame));
}

TEST_F(PodNetworkTest, PutsEverythingBack) {
  Veth("eth0", 1);
  Veth("net1", 2);
  Refresh();
  EXPECT_TRUE(Redirected("eth0"));
  EXPECT_TRUE(Redirected("net1"));
  network_.reset();
  EXPECT_FALSE(Redirected("eth0"));
  EXPECT_FALSE(netns_->Ip("link show | grep -q 'qdisc ingress'"));
  EXPECT_TRUE(netns_->Ip("link show eth0 > /dev/null"));
}

TEST_F(PodNetworkTest, AVmThatIsGone) {
  Veth("eth0", 1);
  guest_->End({"it ended", false});
  const auto refused = network_->Refresh(vm_);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message(), "interface eth0: NIC net0: it ended");
}

TEST_F(PodNetworkTest, AnotherVmHasIt) {
  Veth("eth0", 1);
  Refresh();
  const auto second = PodNetwork::Open(netns_->Dup(), logger_);
  const auto refused = (*second)->BootNics();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kAlreadyExists);
  EXPECT_EQ(refused.error().message(), "interface eth0: tap: a VM has it already");
  EXPECT_TRUE(Redirected("eth0"));
}

}  // namespace
}  // namespace bulkhead::shim
