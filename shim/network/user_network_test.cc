// passt and the filter of the host's loopback. With guests: test/integration/test_user_network.py.
#include "shim/network/user_network.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>

#include "base/sys.h"
#include "base/temp_dir.h"
#include "shim/network/link_greeting.h"
#include "shim/network/user_link.h"

namespace bulkhead::shim {
namespace {

using std::chrono::milliseconds;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;
using ::testing::Not;

in_addr Ip4(const char* text) {
  in_addr address{};
  ::inet_pton(AF_INET, text, &address);
  return address;
}

TEST(LinkGreeting, AsksAndReads) {
  const std::string arp = ArpQuestion(kUserMac, Ip4("10.0.2.15"), Ip4("10.0.2.2"));
  EXPECT_EQ(arp, std::string("\xff\xff\xff\xff\xff\xff\x02\x62\x75\x6c\x6b\x01\x08\x06"
                             "\0\1\x08\0\6\4\0\1\x02\x62\x75\x6c\x6b\x01\x0a\0\2\x0f"
                             "\0\0\0\0\0\0\x0a\0\2\2",
                             42));
  EXPECT_FALSE(ReadAnswer(arp));
  std::string answer = arp;
  answer[21] = 2;
  EXPECT_EQ(ReadAnswer(answer), LinkAnswer::kArp);
  in6_addr ours{};
  in6_addr target{};
  ::inet_pton(AF_INET6, "fd00::15", &ours);
  ::inet_pton(AF_INET6, "fd00::2", &target);
  // As another program computes the checksum.
  const std::string neighbour = NeighbourQuestion({2, 0, 0, 0, 0, 2}, ours, target);
  ASSERT_EQ(neighbour.size(), 86U);
  EXPECT_EQ(neighbour.substr(56, 2), "\x7d\x82");
  EXPECT_FALSE(ReadAnswer(neighbour));
  answer = neighbour;
  answer[54] = '\x88';
  EXPECT_EQ(ReadAnswer(answer), LinkAnswer::kNeighbour);
  for (size_t size = 0; size < 42; ++size) {
    EXPECT_FALSE(ReadAnswer(arp.substr(0, size)));
    EXPECT_FALSE(ReadAnswer(answer.substr(0, size)));
  }
}

TEST(Passt, Arguments) {
  PasstOptions options{"/p", {}, {{"127.0.0.53", "::1"}, {}, ""}, false, -1};
  auto argv = PasstArguments(options, 3);
  EXPECT_THAT(argv, IsSupersetOf({"--foreground", "--no-map-gw", "--no-dhcp", "--fd", "3"}));
  EXPECT_THAT(argv, AllOf(Contains(kUserDns4), Contains(kUserDns6)));
  options.resolver.servers.emplace_back("192.0.2.1");  // asked directly
  options.maps_gateway = true;
  options.ports = {*ParsePublishedPorts("127.0.0.1:80-81:8080-8081"),
                   *ParsePublishedPorts("[::1]:53:5353/udp"), *ParsePublishedPorts("7:7")};
  argv = PasstArguments(options, 3);
  EXPECT_THAT(argv, Not(Contains("--no-map-gw")));
  EXPECT_THAT(argv, Not(Contains("--dns-forward")));
  const auto tail = std::vector<std::string>(argv.end() - 6, argv.end());
  EXPECT_EQ(tail, (std::vector<std::string>{"--tcp-ports", "127.0.0.1/80-81:8080-8081",
                                            "--tcp-ports", "7:7", "--udp-ports", "::1/53:5353"}));
}

// A program in passt's place, which a shell runs.
class StandInForPasst : public ::testing::Test {
 protected:
  Result<Passt> Start(const std::string& script) {
    const std::string path = dir_.path() + "/passt";
    EXPECT_TRUE(sys::WriteFile(path, "#!/bin/sh\n" + script + "\n", 0755));
    return Passt::Start({path, {}, {}, false, -1}, spawner_);
  }
  TempDir dir_ = *TempDir::Create("/tmp/passt-test-");
  SpawnThread spawner_;
};

TEST_F(StandInForPasst, ItsWordsAreTheError) {
  auto failing = Start("echo 'Failed to bind port 80 (Address already in use)' >&2; exit 1");
  ASSERT_TRUE(failing);
  EXPECT_EQ(failing->Greet(milliseconds(5000)).error().message(),
            "passt: Failed to bind port 80 (Address already in use)");
  auto silent = Start("exec sleep 100");
  EXPECT_EQ(silent->Greet(milliseconds(100)).error().message(), "passt: it does not answer");
  auto bad = Start("printf '\\377\\377\\377\\377' >&3; exec sleep 100");
  EXPECT_EQ(bad->Greet(milliseconds(5000)).error().message(), "passt: a frame of 4294967295 bytes");
  EXPECT_THAT(Passt::Start({"/nonexistent", {}, {}, false, -1}, spawner_).error().message(),
              HasSubstr("/nonexistent"));
}

class LoopbackFilterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto filter = LoopbackFilter::Create({}); !filter) {
      GTEST_SKIP() << filter.error().message();
    }
  }
  // What a shell in the group says after a connection to each.
  static std::string Try(const LoopbackFilter& filter, const std::string& script) {
    sys::Pipe output = *sys::MakePipe();
    SpawnOptions options;
    options.argv = {"/bin/bash", "-c", script};
    options.fds = {{output.write.get(), 1}, {output.write.get(), 2}};
    options.cgroup = filter.group();
    auto child = Child::Spawn(options);
    EXPECT_TRUE(child) << child.error().message();
    output.write.Reset();
    return *sys::ReadFd(output.read.get(), 64U << 10U, "its output");
  }
};

TEST_F(LoopbackFilterTest, Refuses) {
  const auto filter = LoopbackFilter::Create({{"127.0.0.53"}, false});
  ASSERT_TRUE(filter) << filter.error().message();
  for (const char* where : {"tcp/127.0.0.1/9", "udp/127.0.0.1/9", "tcp/127.0.0.2/53",
                            "udp/127.0.0.53/54", "tcp/0.0.0.0/9", "tcp/::1/9", "udp/::1/53",
                            "tcp/::ffff:127.0.0.1/9", "udp/127.0.0.1/40000"}) {
    EXPECT_THAT(Try(*filter, fmt::format(": > /dev/{}", where)),
                HasSubstr("Operation not permitted"))
        << where;
  }
  // Nobody is there, but that the kernel says.
  EXPECT_THAT(Try(*filter, ": > /dev/tcp/127.0.0.53/53"), HasSubstr("refused"));
  EXPECT_EQ(Try(*filter, ": > /dev/udp/127.0.0.53/53"), "");
}

TEST_F(LoopbackFilterTest, LetsAnswersThrough) {
  const auto filter = LoopbackFilter::Create({{"::1"}, true});
  ASSERT_TRUE(filter);
  for (const char* where : {"udp/127.0.0.1/32768", "udp/::1/65535", "udp/::1/53"}) {
    EXPECT_EQ(Try(*filter, fmt::format(": > /dev/{}", where)), "") << where;
  }
  for (const char* where : {"udp/127.0.0.1/32767", "tcp/127.0.0.1/40000", "udp/::1/54"}) {
    EXPECT_THAT(Try(*filter, fmt::format(": > /dev/{}", where)),
                HasSubstr("Operation not permitted"))
        << where;
  }
}

TEST(FilterGroup, IsRemovedByItsPath) {
  auto group = FilterGroup::Make();
  if (!group) {
    GTEST_SKIP() << group.error().message();
  }
  const std::string path = group->path();
  EXPECT_TRUE(FilterGroup::Remove(path));
  EXPECT_TRUE(FilterGroup::Remove(path));  // it is gone
  for (const char* other : {"/", "", "/user.slice"}) {
    EXPECT_EQ(FilterGroup::Remove(other).error().code(), ErrorCode::kInvalidArgument);
  }
}

TEST(UserNetwork, WithoutPasst) {
  SpawnThread spawner;
  Logger logger{"test", 2, LogFormat::kText, LogLevel::kDebug};
  UserNetworkOptions options;
  options.ports = {*ParsePublishedPorts("127.0.0.1:80-81:8080-8081")};
  UserNetwork network(options, std::nullopt, spawner, logger);
  const auto nics = network.BootNics();
  ASSERT_TRUE(nics) << nics.error().message();
  ASSERT_EQ(nics->size(), 1U);
  ASSERT_TRUE(hypervisor::CheckNic(nics->at(0)));
  const auto& user = std::get<hypervisor::UserBackend>(nics->at(0).backend);
  ASSERT_EQ(user.forwards.size(), 2U);
  EXPECT_EQ(user.forwards[1].host_port, 81);
  EXPECT_EQ(user.forwards[1].guest_port, 8081);
  const auto described = network.Describe();
  EXPECT_EQ(described.interfaces(0).name(), "eth0");
  EXPECT_EQ(described.interfaces(0).mtu(), 1500U);
  EXPECT_EQ(described.interfaces(0).addresses(0).prefix(), 24U);
  EXPECT_EQ(described.routes(0).gateway(), std::string("\x0a\0\2\2", 4));
  EXPECT_EQ(network.Inspect().kind(), "user");
  EXPECT_EQ(network.Inspect().interfaces(0).kind(), "slirp");
  EXPECT_EQ(network.Inspect().interfaces(0).addresses(0), "10.0.2.15/24");
  options.ports = {*ParsePublishedPorts("[::1]:80:80")};
  UserNetwork ip6(options, std::nullopt, spawner, logger);
  EXPECT_THAT(ip6.BootNics().error().message(), HasSubstr("--publish [::1]:80:80/tcp: QEMU's own"));
  options.may_use_slirp = false;
  UserNetwork none(options, std::nullopt, spawner, logger);
  EXPECT_THAT(none.BootNics().error().message(), HasSubstr("passt is not there"));
}

}  // namespace
}  // namespace bulkhead::shim
