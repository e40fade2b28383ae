// Network namespaces of a test's own, which go with it, and frames in them.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cstdlib>
#include <optional>
#include <string>
#include <thread>

#include "base/sys.h"
#include "shim/network/enter_netns.h"

namespace bulkhead::shim {

class TestNetns {
 public:
  static Result<TestNetns> Create() {
    Result<UniqueFd> fd;
    std::thread([&] {
      const Status alone = sys::Unshare(CLONE_NEWNET);
      fd = alone ? sys::Open("/proc/thread-self/ns/net", O_RDONLY) : tl::unexpected(alone.error());
    }).join();
    return TestNetns(TRY(std::move(fd)));
  }

  int fd() const { return fd_.get(); }
  UniqueFd Dup() const { return *sys::Dup(fd()); }
  // For the command `ip`, as an argument.
  std::string path() const { return fmt::format("/proc/{}/fd/{}", ::getpid(), fd()); }

  // Runs `ip COMMAND` there.
  Status Ip(const std::string& command) const {
    return InNetns(fd(), [&]() -> Status {
      if (std::system(("ip " + command).c_str()) != 0) {
        return MakeError(ErrorCode::kInternal, "ip {}", command);
      }
      return {};
    });
  }

  // A raw socket for the frames of one protocol at an interface that is up.
  Result<UniqueFd> Frames(const std::string& interface, uint16_t protocol) const {
    return InNetns(fd(), [&]() -> Result<UniqueFd> {
      UniqueFd socket(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(protocol)));
      TRY(sys::CheckCall(socket.get(), "socket"));
      sockaddr_ll address{};
      address.sll_family = AF_PACKET;
      address.sll_protocol = htons(protocol);
      address.sll_ifindex = static_cast<int>(::if_nametoindex(interface.c_str()));
      TRY(sys::CheckCall(
          ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)),
          "bind to {}", interface));
      return socket;
    });
  }

 private:
  explicit TestNetns(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

// In a namespace of its own with `ip` and loopback; skipped where there can be none.
class NetnsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto netns = TestNetns::Create();
    if (!netns) {
      GTEST_SKIP() << "no network namespaces: " << netns.error().message();
    }
    netns_.emplace(std::move(*netns));
    if (!netns_->Ip("link set lo up")) {
      GTEST_SKIP() << "no ip(8)";
    }
    MakeReady();
  }
  // What else the tests need; called in SetUp().
  virtual void MakeReady() {}

  std::optional<TestNetns> netns_;
};

// The pod's namespace, and the one at the far end of its interfaces.
struct TestNetnsPair {
  // Errors say what the machine lacks.
  static Result<TestNetnsPair> Create() {
    TestNetns near = TRY(TestNetns::Create());
    if (!near.Ip("-V > /dev/null")) {
      return MakeError(ErrorCode::kNotFound, "no ip(8)");
    }
    TestNetns far = TRY(TestNetns::Create());
    return TestNetnsPair{std::move(near), std::move(far)};
  }

  TestNetns near;
  TestNetns far;
};

// What comes next; empty when nothing does.
inline std::string NextFrame(int fd, std::chrono::milliseconds time) {
  std::string frame(65536, '\0');
  if (!sys::PollOne(fd, POLLIN, time).value_or(false)) {
    return "";
  }
  frame.resize(sys::Read(fd, std::as_writable_bytes(std::span(frame))).value_or(0));
  return frame;
}

}  // namespace bulkhead::shim
