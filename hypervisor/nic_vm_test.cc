// Network interfaces of real guests under TCG. Skipped where the kernel or QEMU is missing.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
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

// A tap in a network namespace of its own, and a socket that sees its frames.
struct TestTap {
  UniqueFd tap;
  UniqueFd second;  // its other queue, if it has two
  UniqueFd frames;
};

Result<TestTap> MakeTapHere(bool two_queues) {
  TRY(sys::Unshare(CLONE_NEWNET));
  TestTap made;
  made.tap = TRY(sys::Open("/dev/net/tun", O_RDWR));
  ifreq request{};
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (two_queues ? IFF_MULTI_QUEUE : 0);
  TRY(sys::CheckCall(::ioctl(made.tap.get(), TUNSETIFF, &request), "TUNSETIFF"));
  if (two_queues) {
    made.second = TRY(sys::Open("/dev/net/tun", O_RDWR));
    TRY(sys::CheckCall(::ioctl(made.second.get(), TUNSETIFF, &request), "TUNSETIFF"));
  }
  made.frames = UniqueFd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_802_EX1)));
  TRY(sys::CheckCall(made.frames.get(), "socket"));
  TRY(sys::CheckCall(::ioctl(made.frames.get(), SIOCGIFINDEX, &request), "SIOCGIFINDEX"));
  const int index = request.ifr_ifindex;
  request.ifr_mtu = 9000;
  TRY(sys::CheckCall(::ioctl(made.frames.get(), SIOCSIFMTU, &request), "SIOCSIFMTU"));
  request.ifr_flags = IFF_UP;
  TRY(sys::CheckCall(::ioctl(made.frames.get(), SIOCSIFFLAGS, &request), "SIOCSIFFLAGS"));
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(ETH_P_802_EX1);
  address.sll_ifindex = index;
  TRY(sys::CheckCall(
      ::bind(made.frames.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)),
      "bind"));
  return made;
}

Result<TestTap> MakeTap(bool two_queues = false) {
  Result<TestTap> made;
  std::thread([&] { made = MakeTapHere(two_queues); }).join();
  return made;
}

class NicVm : public VmFixture {
 protected:
  NicVm() : VmFixture(BULKHEAD_NIC_PROBE) {}

  void SetUp() override {
    if (const auto tap = MakeTap(); !tap) {
      GTEST_SKIP() << tap.error().message();
    }
    VmFixture::SetUp();
  }
  static MacAddress Mac(uint8_t number) { return {2, 0, 0, 0, 0xbe, number}; }
  static NicConfig Nic(uint8_t number, const TestTap& tap, uint32_t mtu = 1500) {
    return TapNic(fmt::format("n{}", number), Mac(number), mtu, *sys::Dup(tap.tap.get()), {});
  }
  static NicConfig TwoQueues(uint8_t number, const TestTap& tap) {
    NicConfig nic = Nic(number, tap);
    std::get<TapBackend>(nic.backend).queues.push_back(*sys::Dup(tap.second.get()));
    return nic;
  }
  bool Shows(uint8_t number, uint32_t mtu = 1500) {
    return Says(fmt::format("<nic {} mtu={}>", FormatMac(Mac(number)), mtu));
  }
  // A frame goes to the guest, which sends it back; a driver that has just begun may lose one.
  static bool Echoes(uint8_t number, const TestTap& tap, size_t payload) {
    constexpr int kTries = 5;
    const auto [frame, answer] = FrameAndAnswer(number, payload);
    for (int i = 0; i < kTries && sys::WriteAll(tap.frames.get(), frame); ++i) {
      std::string seen;
      do {
        seen = Read(tap.frames.get(), 65536, milliseconds(2000));
      } while (!seen.empty() && seen != answer);
      if (seen == answer) {
        return true;
      }
    }
    return false;
  }
  static std::pair<std::string, std::string> FrameAndAnswer(uint8_t number, size_t payload) {
    const MacAddress guest = Mac(number);
    const MacAddress us{2, 0, 0, 0, 0xaa, number};
    std::string rest = "\x88\xb5";  // ETH_P_802_EX1
    for (size_t i = 0; i < payload; ++i) {
      rest += static_cast<char>('a' + (i + number) % 26);
    }
    const auto frame = [&](const MacAddress& to, const MacAddress& from) {
      return std::string(to.begin(), to.end()) + std::string(from.begin(), from.end()) + rest;
    };
    return {frame(guest, us), frame(us, guest)};
  }
  static std::string Read(int fd, size_t limit, milliseconds patience = milliseconds(10000)) {
    std::string text(limit, '\0');
    text.resize(sys::PollOne(fd, POLLIN, patience).value_or(false)
                    ? sys::Read(fd, std::as_writable_bytes(std::span(text))).value_or(0)
                    : 0);
    return text;
  }
  static bool EchoesOverStream(uint8_t number, int socket) {
    const auto [frame, answer] = FrameAndAnswer(number, 46);
    const std::string length{0, 0, 0, static_cast<char>(frame.size())};
    if (!sys::WriteAll(socket, length + frame)) {
      return false;
    }
    // The guest's own greetings may come first.
    std::string seen;
    while (!seen.ends_with(length + answer)) {
      const std::string more = Read(socket, 4096);
      if (more.empty()) {
        return false;
      }
      seen += more;
    }
    return true;
  }
};

TEST_F(NicVm, ComesAndGoes) {
  Start();
  const size_t files = OpenFiles();
  const TestTap tap = *MakeTap();
  const auto begin = steady_clock::now();
  const auto attached = vm_->AttachNic(Nic(1, tap, 9000));
  ASSERT_TRUE(attached) << attached.error().message();
  ASSERT_TRUE(Shows(1, 9000)) << vm_->ConsoleTail();
  const auto seen = steady_clock::now();
  EXPECT_TRUE(Echoes(1, tap, 46));
  EXPECT_TRUE(Echoes(1, tap, 9000));
  EXPECT_THAT(Qmp("query-rx-filter"), HasSubstr(FormatMac(Mac(1))));
  EXPECT_EQ(vm_->AttachNic(Nic(1, tap)).error().message(), "NIC n1: the VM has one of this name");
  const auto detach = steady_clock::now();
  const auto detached = vm_->DetachNic("n1");
  ASSERT_TRUE(detached) << detached.error().message();
  const auto end = steady_clock::now();
  EXPECT_TRUE(Says("<gone eth0>"));
  EXPECT_THAT(Qmp("query-rx-filter"), Not(HasSubstr(FormatMac(Mac(1)))));
  EXPECT_EQ(OpenFiles(), files);
  EXPECT_EQ(vm_->DetachNic("n1").error().code(), ErrorCode::kNotFound);
  // The tap outlives it, and serves another.
  ASSERT_TRUE(vm_->AttachNic(Nic(2, tap)));
  EXPECT_TRUE(Shows(2)) << vm_->ConsoleTail();
  EXPECT_TRUE(Echoes(2, tap, 1500));
  using std::chrono::duration_cast;
  RecordProperty("seen_ms", static_cast<int>(duration_cast<milliseconds>(seen - begin).count()));
  RecordProperty("detach_ms", static_cast<int>(duration_cast<milliseconds>(end - detach).count()));
}

TEST_F(NicVm, ThereFromTheStart) {
  const TestTap first = *MakeTap();
  const TestTap second = *MakeTap();
  std::vector<NicConfig> nics;
  nics.push_back(Nic(1, first));
  nics.push_back(Nic(2, second, 1400));
  Start(std::move(nics));
  ASSERT_TRUE(Shows(1)) << vm_->ConsoleTail();
  ASSERT_TRUE(Shows(2, 1400)) << vm_->ConsoleTail();
  EXPECT_TRUE(Echoes(1, first, 1500));
  EXPECT_TRUE(Echoes(2, second, 1400));
  EXPECT_EQ(vm_->AttachNic(Nic(1, first)).error().code(), ErrorCode::kAlreadyExists);
  const auto detached = vm_->DetachNic("n1");
  ASSERT_TRUE(detached) << detached.error().message();
  EXPECT_TRUE(Says("<gone eth"));
  ASSERT_TRUE(vm_->AttachNic(Nic(3, first)));
  ASSERT_TRUE(Shows(3)) << vm_->ConsoleTail();
  EXPECT_TRUE(Echoes(3, first, 1500));
  EXPECT_TRUE(Echoes(2, second, 1400));
}

TEST_F(NicVm, SeveralQueues) {
  config_.vcpus = 2;
  const TestTap first = *MakeTap(true);
  const TestTap second = *MakeTap(true);
  std::vector<NicConfig> nics;
  nics.push_back(TwoQueues(1, first));
  Start(std::move(nics));
  ASSERT_TRUE(Shows(1)) << vm_->ConsoleTail();
  EXPECT_TRUE(Echoes(1, first, 1500));
  const auto attached = vm_->AttachNic(TwoQueues(2, second));
  ASSERT_TRUE(attached) << attached.error().message();
  ASSERT_TRUE(Shows(2)) << vm_->ConsoleTail();
  EXPECT_TRUE(Echoes(2, second, 1500));
  EXPECT_TRUE(Says("<eth0 queues=2>"));
  EXPECT_TRUE(Says("<eth1 queues=2>"));
  EXPECT_TRUE(vm_->DetachNic("n1"));
}

TEST_F(NicVm, OverAStream) {
  sys::SocketPair first = *sys::MakeSocketPair(SOCK_STREAM);
  sys::SocketPair second = *sys::MakeSocketPair(SOCK_STREAM);
  std::vector<NicConfig> nics;
  nics.push_back({"n1", Mac(1), 9000, StreamBackend{std::move(first.second)}});
  Start(std::move(nics));
  ASSERT_TRUE(Shows(1, 9000)) << vm_->ConsoleTail();
  EXPECT_TRUE(EchoesOverStream(1, first.first.get()));
  const auto attached =
      vm_->AttachNic({"n2", Mac(2), 1500, StreamBackend{std::move(second.second)}});
  ASSERT_TRUE(attached) << attached.error().message();
  ASSERT_TRUE(Shows(2)) << vm_->ConsoleTail();
  EXPECT_TRUE(EchoesOverStream(2, second.first.get()));
  // The other end goes: the VM stays.
  first.first.Reset();
  EXPECT_TRUE(EchoesOverStream(2, second.first.get()));
  EXPECT_TRUE(vm_->DetachNic("n1"));
}

TEST_F(NicVm, QemusOwn) {
  const auto user = [] {
    UserBackend made;
    made.prefix6 = "fd00::";
    made.gateway6 = "fd00::2";
    made.dns6 = "fd00::3";
    return made;
  };
  std::vector<NicConfig> nics;
  nics.push_back({"n1", Mac(1), 1500, user()});
  Start(std::move(nics));
  ASSERT_TRUE(Shows(1)) << vm_->ConsoleTail();
  const auto attached = vm_->AttachNic({"n2", Mac(2), 1500, user()});
  ASSERT_TRUE(attached) << attached.error().message();
  ASSERT_TRUE(Shows(2)) << vm_->ConsoleTail();
  EXPECT_TRUE(vm_->DetachNic("n1"));
}

TEST_F(NicVm, StartsThatAreRefused) {
  const TestTap tap = *MakeTap();
  const auto refusal = [&](uint8_t first, uint8_t second) {
    std::vector<NicConfig> nics;
    nics.push_back(Nic(first, tap));
    nics.push_back(Nic(second, tap));
    return hypervisor_->Start(config_, std::move(nics)).error().message();
  };
  EXPECT_EQ(refusal(1, 1), "NIC n1: the VM has one of this name");
  config_.hotplug_slots = 0;
  EXPECT_EQ(refusal(1, 2), "2 NICs: the VM has 0 places");
}

TEST_F(NicVm, TheEndOfTheVmIsTheReason) {
  Start();
  const TestTap tap = *MakeTap();
  ASSERT_TRUE(sys::Kill(vm_->pid(), SIGKILL));
  const auto late = vm_->AttachNic(Nic(1, tap));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code(), ErrorCode::kUnavailable);
  EXPECT_THAT(late.error().message(), HasSubstr("NIC n1: QEMU was killed by signal 9"));
}

}  // namespace
}  // namespace bulkhead::hypervisor
