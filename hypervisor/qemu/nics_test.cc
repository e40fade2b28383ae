// What is said to QEMU's monitor about network interfaces. How devices come and go in general:
// drives_test.cc.
#include "hypervisor/qemu/nics.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <sys/ioctl.h>

#include <thread>

#include "base/sys.h"
#include "hypervisor/qemu/drives.h"
#include "hypervisor/qemu/fake_monitor.h"

namespace bulkhead::hypervisor::qemu {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// In a network namespace that only the tap holds.
Result<UniqueFd> Tap(int flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR) {
  Result<UniqueFd> tap;
  std::thread([&]() {
    const auto make = [&]() -> Result<UniqueFd> {
      TRY(sys::Unshare(CLONE_NEWNET));
      UniqueFd fd = TRY(sys::Open("/dev/net/tun", O_RDWR));
      ifreq request{};
      request.ifr_flags = static_cast<short>(flags);
      TRY(sys::CheckCall(::ioctl(fd.get(), TUNSETIFF, &request), "TUNSETIFF"));
      return fd;
    };
    tap = make();
  }).join();
  return tap;
}

class NicsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto tap = Tap(); !tap) {
      GTEST_SKIP() << tap.error().message();
    }
  }
  void TearDown() override { client_.reset(); }
  void Serve(Monitor::Answer answer) {
    sys::SocketPair pair = *sys::MakeSocketPair(SOCK_STREAM);
    monitor_ = std::make_unique<Monitor>(std::move(pair.second), std::move(answer));
    client_ = std::make_unique<QmpClient>(
        std::move(pair.first),
        QmpClient::Handlers{[] {}, [this](const QmpMessage& event) { board_.OnEvent(event); },
                            [this] { board_.OnClosed(); }});
  }
  static NicConfig Nic(const std::string& id) {
    return {id, {2, 0, 0, 0, 0xab, 1}, 9000, *Tap(), UniqueFd()};
  }
  Status Attach(NicConfig nic) { return AttachNic(board_, *client_, std::move(nic)); }
  std::vector<std::string> Commands() {
    client_.reset();
    return monitor_->Commands();
  }

  PlugBoard board_{2, milliseconds(200)};
  std::unique_ptr<Monitor> monitor_;
  std::unique_ptr<QmpClient> client_;
};

TEST_F(NicsTest, SpeaksToTheMonitor) {
  Serve([](const std::string& line) {
    return Is(line, "device_del")
               ? std::string(R"({"event":"DEVICE_DELETED","data":{"device":"d0"}})") + "\n" + kDone
               : std::string(kDone);
  });
  ASSERT_TRUE(Attach(Nic("one")));
  NicConfig two = Nic("two");
  two.vhost = *sys::Open("/dev/null", O_RDWR);
  ASSERT_TRUE(Attach(std::move(two)));
  EXPECT_EQ(Attach(Nic("one")).error().message(), "NIC one: the VM has one of this name");
  EXPECT_EQ(Attach(Nic("x")).error().message(), "NIC x: all 2 places of the VM are taken");
  ASSERT_TRUE(DetachNic(board_, *client_, "one"));
  EXPECT_EQ(DetachNic(board_, *client_, "one").error().code(), ErrorCode::kNotFound);
  EXPECT_EQ(DetachDrive(board_, *client_, "two").error().code(), ErrorCode::kNotFound);
  EXPECT_THAT(Commands(), ElementsAre("getfd", "netdev_add", "device_add",           // one
                                      "getfd", "getfd", "netdev_add", "device_add",  // two
                                      "device_del", "netdev_del"));
  EXPECT_EQ(monitor_->files.size(), 3U);
  const auto& lines = monitor_->lines;
  EXPECT_THAT(lines[0], HasSubstr(R"("arguments":{"fdname":"d0"})"));
  EXPECT_THAT(lines[1],
              HasSubstr(R"("arguments":{"fd":"d0","id":"d0","type":"tap","vhost":false})"));
  for (const char* part :
       {R"("driver":"virtio-net-pci")", R"("mac":"02:00:00:00:ab:01")", R"("host_mtu":9000)",
        R"("addr":"0x0","bus":"plug0")", R"("netdev":"d0")", R"("romfile":"")"}) {
    EXPECT_THAT(lines[2], HasSubstr(part));
  }
  EXPECT_THAT(lines[5], HasSubstr(R"("vhost":true,"vhostfd":"d1-vhost")"));
}

TEST_F(NicsTest, UndoesWhatFailed) {
  std::string failing;
  Serve([&](const std::string& line) {
    return Is(line, failing) ? Refusal("no luck") : std::string(kDone);
  });
  failing = "netdev_add";
  EXPECT_EQ(Attach(Nic("x")).error().message(), "NIC x: QMP netdev_add: no luck");
  failing = "device_add";
  EXPECT_EQ(Attach(Nic("x")).error().message(), "NIC x: QMP device_add: no luck");
  failing = "none";
  EXPECT_TRUE(Attach(Nic("x")));
  EXPECT_THAT(Commands(), ElementsAre("getfd", "netdev_add", "closefd", "closefd",        //
                                      "getfd", "netdev_add", "device_add", "netdev_del",  //
                                      "getfd", "netdev_add", "device_add"));
}

TEST_F(NicsTest, SaysNothingOfABadNic) {
  Serve([](const std::string&) { return std::string(kDone); });
  const auto refusal = [&](NicConfig nic) { return Attach(std::move(nic)).error().message(); };
  EXPECT_THAT(refusal(Nic("a,b")), HasSubstr("NIC \"a,b\": an id has"));
  EXPECT_THAT(refusal({"x", {1}, 1500, *Tap(), UniqueFd()}),
              HasSubstr("NIC x: 01:00:00:00:00:00 is not the address of one station"));
  EXPECT_THAT(refusal({"x", {}, 1500, *Tap(), UniqueFd()}), HasSubstr("not the address"));
  EXPECT_THAT(refusal({"x", {2}, 67, *Tap(), UniqueFd()}), HasSubstr("NIC x: an MTU of 67"));
  EXPECT_THAT(refusal({"x", {2}, 65536, *Tap(), UniqueFd()}), HasSubstr("an MTU of 65536"));
  EXPECT_THAT(refusal({"x", {2}, 1500, UniqueFd(), UniqueFd()}), HasSubstr("NIC x: the tap"));
  EXPECT_THAT(refusal({"x", {2}, 1500, *Tap(IFF_TAP | IFF_NO_PI), UniqueFd()}),
              HasSubstr("tap0 is not a tap without packet information"));
  EXPECT_THAT(Commands(), IsEmpty());
}

}  // namespace
}  // namespace bulkhead::hypervisor::qemu
