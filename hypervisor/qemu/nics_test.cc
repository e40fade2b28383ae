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

constexpr int kTap = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;

// Queues of a tap in a network namespace that only they hold.
Result<std::vector<UniqueFd>> Taps(const std::vector<const char*>& names, int flags) {
  Result<std::vector<UniqueFd>> taps;
  std::thread([&]() {
    const auto make = [&]() -> Result<std::vector<UniqueFd>> {
      TRY(sys::Unshare(CLONE_NEWNET));
      std::vector<UniqueFd> fds;
      for (const std::string name : names) {
        UniqueFd fd = TRY(sys::Open("/dev/net/tun", O_RDWR));
        ifreq request{};
        name.copy(request.ifr_name, IFNAMSIZ - 1);
        request.ifr_flags = static_cast<short>(flags);
        TRY(sys::CheckCall(::ioctl(fd.get(), TUNSETIFF, &request), "TUNSETIFF"));
        fds.push_back(std::move(fd));
      }
      return fds;
    };
    taps = make();
  }).join();
  return taps;
}

Result<UniqueFd> Tap(int flags = kTap) {
  std::vector<UniqueFd> taps = TRY(Taps({"tap0"}, flags));
  return std::move(taps[0]);
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
  static NicConfig Nic(const std::string& id) { return With(id, TapBackend()); }
  // With a tap of one queue if it brings none.
  static NicConfig With(const std::string& id, TapBackend tap) {
    if (tap.queues.empty()) {
      tap.queues.push_back(*Tap());
    }
    return {id, {2, 0, 0, 0, 0xab, 1}, 9000, std::move(tap)};
  }
  static UniqueFd Null() { return *sys::Open("/dev/null", O_RDWR); }
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
  ASSERT_TRUE(Attach(TapNic("two", {2}, 1500, *Tap(), Null())));
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
  EXPECT_THAT(lines[0], HasSubstr(R"("arguments":{"fdname":"d0-0"})"));
  EXPECT_THAT(lines[1],
              HasSubstr(R"("arguments":{"fd":"d0-0","id":"d0","type":"tap","vhost":false})"));
  for (const char* part :
       {R"("driver":"virtio-net-pci")", R"("mac":"02:00:00:00:ab:01")", R"("host_mtu":9000)",
        R"("addr":"0x0","bus":"plug0")", R"("netdev":"d0")", R"("romfile":"")"}) {
    EXPECT_THAT(lines[2], HasSubstr(part));
  }
  EXPECT_THAT(lines[5], HasSubstr(R"("vhost":true,"vhostfd":"d1-1")"));
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
  EXPECT_THAT(Commands(), ElementsAre("getfd", "netdev_add", "closefd",                   //
                                      "getfd", "netdev_add", "device_add", "netdev_del",  //
                                      "getfd", "netdev_add", "device_add"));
}

TEST_F(NicsTest, SaysNothingOfABadNic) {
  Serve([](const std::string&) { return std::string(kDone); });
  const auto refusal = [&](NicConfig nic) { return Attach(std::move(nic)).error().message(); };
  EXPECT_THAT(refusal(Nic("a,b")), HasSubstr("NIC \"a,b\": an id has"));
  const auto tap = [&](const MacAddress& mac, uint32_t mtu, UniqueFd fd = *Tap()) {
    return refusal(TapNic("x", mac, mtu, std::move(fd), UniqueFd()));
  };
  EXPECT_THAT(tap({1}, 1500),
              HasSubstr("NIC x: 01:00:00:00:00:00 is not the address of one station"));
  EXPECT_THAT(tap({}, 1500), HasSubstr("not the address"));
  EXPECT_THAT(tap({2}, 67), HasSubstr("NIC x: an MTU of 67"));
  EXPECT_THAT(tap({2}, 65536), HasSubstr("an MTU of 65536"));
  EXPECT_THAT(tap({2}, 1500, UniqueFd()), HasSubstr("NIC x: the tap"));
  EXPECT_THAT(tap({2}, 1500, *Tap(IFF_TAP | IFF_NO_PI)),
              HasSubstr("tap0 is not a tap without packet information"));
  EXPECT_THAT(Commands(), IsEmpty());
}

TEST_F(NicsTest, QueuesOfATap) {
  Serve([](const std::string&) { return std::string(kDone); });
  TapBackend many;
  many.queues = *Taps({"tap0", "tap0", "tap0"}, kTap | IFF_MULTI_QUEUE);
  for (int i = 0; i < 3; ++i) {
    many.vhost.push_back(Null());
  }
  ASSERT_TRUE(Attach(With("many", std::move(many))));
  EXPECT_THAT(Commands(), ElementsAre("getfd", "getfd", "getfd", "getfd", "getfd", "getfd",
                                      "netdev_add", "device_add"));
  EXPECT_THAT(monitor_->lines[5], HasSubstr(R"("arguments":{"fdname":"d0-5"})"));
  EXPECT_THAT(monitor_->lines[6],
              HasSubstr(R"("arguments":{"fds":"d0-0:d0-1:d0-2","id":"d0","type":"tap",)"
                        R"("vhost":true,"vhostfds":"d0-3:d0-4:d0-5"})"));
  EXPECT_THAT(monitor_->lines[7], HasSubstr(R"("mq":true)"));
  EXPECT_THAT(monitor_->lines[7], HasSubstr(R"("vectors":8)"));
}

TEST_F(NicsTest, QueuesThatDoNotFit) {
  const auto refusal = [](std::vector<UniqueFd> queues, std::vector<UniqueFd> vhost = {}) {
    return CheckNic({"x", {2}, 1500, TapBackend{std::move(queues), std::move(vhost)}})
        .error()
        .message();
  };
  constexpr int kMany = kTap | IFF_MULTI_QUEUE;
  EXPECT_EQ(refusal({}), "NIC x: a tap of 0 queues: 1 to 16 are possible");
  EXPECT_EQ(refusal(std::vector<UniqueFd>(17)), "NIC x: a tap of 17 queues: 1 to 16 are possible");
  EXPECT_EQ(refusal(*Taps({"tap0", "tap1"}, kTap)), "NIC x: tap0 is a tap of one queue, not of 2");
  EXPECT_EQ(refusal(*Taps({"tap0", "tap1"}, kMany)), "NIC x: queues of two taps: tap0 and tap1");
  EXPECT_EQ(refusal(*Taps({"tap0", "tap0"}, kMany), std::vector<UniqueFd>(1)),
            "NIC x: 1 vhost descriptors for 2 queues");
}

TEST_F(NicsTest, AStream) {
  Serve([](const std::string&) { return std::string(kDone); });
  sys::SocketPair pair = *sys::MakeSocketPair(SOCK_STREAM);
  ASSERT_TRUE(Attach({"one", {2}, 1500, StreamBackend{std::move(pair.first)}}));
  EXPECT_THAT(Commands(), ElementsAre("getfd", "netdev_add", "device_add"));
  EXPECT_THAT(monitor_->lines[1], HasSubstr(R"("fd":"d0-0","id":"d0","type":"socket")"));
  const auto refusal = [](UniqueFd socket) {
    return CheckNic({"x", {2}, 1500, StreamBackend{std::move(socket)}}).error().message();
  };
  EXPECT_EQ(refusal(std::move(sys::MakeSocketPair(SOCK_DGRAM)->first)),
            "NIC x: its socket is not a stream");
  EXPECT_THAT(refusal(Null()), HasSubstr("NIC x: the socket: SO_TYPE"));
}

TEST_F(NicsTest, AUserNetwork) {
  Serve([](const std::string&) { return std::string(kDone); });
  UserBackend user;
  user.forwards = {{false, "127.0.0.1", 8080, 80}, {true, "", 53, 5353}};
  ASSERT_TRUE(Attach({"one", {2}, 1500, std::move(user)}));
  EXPECT_THAT(Commands(), ElementsAre("netdev_add", "device_add"));
  for (const char* part :
       {R"("type":"user")", R"("ipv6":false)", R"("net":"10.0.2.0/24")", R"("host":"10.0.2.2")",
        R"("dns":"10.0.2.3")", R"("dhcpstart":"10.0.2.15")",
        R"("hostfwd":[{"str":"tcp:127.0.0.1:8080-:80"},{"str":"udp::53-:5353"}])"}) {
    EXPECT_THAT(monitor_->lines[0], HasSubstr(part));
  }
  user = {};
  user.prefix6 = "fd00::";
  user.gateway6 = "fd00::2";
  user.dns6 = "fd00::3";
  EXPECT_THAT(NicNetdev({"x", {2}, 1500, std::move(user)}, 1, {}),
              HasSubstr(R"("ipv6":true,"ipv6-prefix":"fd00::","ipv6-host":"fd00::2",)"
                        R"("ipv6-dns":"fd00::3")"));
}

TEST_F(NicsTest, UserNetworksThatCannotBe) {
  const auto refusal = [](auto change) {
    UserBackend user;
    change(user);
    return CheckNic({"x", {2}, 1500, std::move(user)}).error().message();
  };
  EXPECT_EQ(refusal([](auto& user) { user.dns = "a\""; }), "NIC x: \"a\"\" is not an IPv4 address");
  EXPECT_EQ(refusal([](auto& user) { user.network = "10.0.2.0/2x"; }),
            "NIC x: \"10.0.2.0/2x\" is not a network");
  EXPECT_EQ(refusal([](auto& user) { user.prefix6 = "fd00::,"; }),
            "NIC x: \"fd00::,\" is not an IPv6 address");
  EXPECT_EQ(refusal([](auto& user) {
              user.forwards = {{false, "::1", 80, 80}};
            }),
            "NIC x: port 80: \"::1\" is not an IPv4 address");
  EXPECT_EQ(refusal([](auto& user) {
              user.forwards = {{false, "", 80, 0}};
            }),
            "NIC x: port 0 cannot be forwarded");
  EXPECT_EQ(refusal([](auto& user) { user.forwards.resize(1025); }),
            "NIC x: 1025 forwarded ports: at most 1024");
}

}  // namespace
}  // namespace bulkhead::hypervisor::qemu
