#include "shim/network/published_ports.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "base/unique_fd.h"
#include "shim/network/host_resolver.h"

namespace bulkhead::shim {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(PublishedPorts, Parses) {
  using P = PublishedPorts;
  const std::vector<std::pair<std::string, P>> cases{
      {"80", P{false, "", 0, 80, 1}},
      {"8080:80", P{false, "", 8080, 80, 1}},
      {"53:5353/udp", P{true, "", 53, 5353, 1}},
      {"127.0.0.1:8000-8009:80-89/tcp", P{false, "127.0.0.1", 8000, 80, 10}},
      {"[2001:DB8::0:1]:1:65535", P{false, "2001:db8::1", 1, 65535, 1}},
      {"127.0.0.1::80", P{false, "127.0.0.1", 0, 80, 1}},
      {"[::1]::80/udp", P{true, "::1", 0, 80, 1}},
      {":80", P{false, "", 0, 80, 1}},
  };
  for (const auto& [text, expected] : cases) {
    const auto parsed = ParsePublishedPorts(text);
    ASSERT_TRUE(parsed) << parsed.error().message();
    EXPECT_EQ(*parsed, expected) << text;
    EXPECT_EQ(*ParsePublishedPorts(ToText(*parsed)), expected) << text;
  }
  EXPECT_EQ(ToText(*ParsePublishedPorts("[::1]:80-81:90-91/udp")), "[::1]:80-81:90-91/udp");
}

TEST(PublishedPorts, RefusesWithAReason) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"", "\"\" is not a port from 1 to 65535"},
      {"0:80", "\"0\" is not a port"},
      {"65536:80", "\"65536\" is not a port"},
      {"80:x", "\"x\" is not a port"},
      {"80:+1", "\"+1\" is not a port"},
      {"90-80:90-80", "90-80 ends before it begins"},
      {"80-81:80", "2 ports of the host for 1 of the container"},
      {"80-81", "the host's ports must be named"},
      {"80:80/sctp", "\"sctp\" is not tcp or udp"},
      {"localhost:80:80", "\"localhost\" is not an IPv4 address"},
      {"[::1:80:80", "no \"]:\" after the address"},
      {"[127.0.0.1]:80:80", "\"127.0.0.1\" is not an IPv6 address"},
      {"[::1]:80", "there is no port of the container"},
      {"1.2.3.4:1:2:3", "\"2:3\" is not a port"},
  };
  for (const auto& [text, reason] : cases) {
    const auto parsed = ParsePublishedPorts(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_THAT(parsed.error().message(), HasSubstr(reason)) << text;
    EXPECT_THAT(parsed.error().message(), HasSubstr("\"" + text + "\" is not [IP:]HOSTPORT"));
  }
}

TEST(PublishedPorts, AreBounded) {
  std::vector<PublishedPorts> ports{*ParsePublishedPorts("1-1024:1-1024")};
  EXPECT_TRUE(CheckPublishedPorts(ports));
  ports.push_back(*ParsePublishedPorts("2000:1/udp"));
  EXPECT_EQ(CheckPublishedPorts(ports).error().message(), "1025 ports are published: at most 1024");
}

TEST(PublishedPorts, AreClaimed) {
  std::vector<PublishedPorts> ports{*ParsePublishedPorts("127.0.0.1::80"),
                                    *ParsePublishedPorts("127.0.0.1::80/udp")};
  ASSERT_TRUE(ClaimPorts(ports));
  EXPECT_NE(ports[0].host, 0);
  EXPECT_NE(ports[1].host, 0);
  ASSERT_TRUE(ClaimPorts(ports));  // free again
  const UniqueFd server(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(ports[0].host);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::bind(server.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(::listen(server.get(), 1), 0);
  EXPECT_EQ(ClaimPorts(ports).error().message(),
            fmt::format("port 127.0.0.1 {}/tcp of the host: it cannot be taken: Address already in "
                        "use",
                        ports[0].host));
  // One of them twice.
  std::vector<PublishedPorts> twice{ports[1], ports[1]};
  EXPECT_THAT(ClaimPorts(twice).error().message(), HasSubstr("already in use"));
}

TEST(HostResolver, ReadsResolvConf) {
  const HostResolver resolver = ParseResolvConf(
      "# nameserver 1.1.1.1\nnameserver 192.0.2.1\nnameserver\t2001:db8::1\ndomain a.test\n"
      "nameserver fe80::1%eth0\nsearch b.test c.test\nnameserver 127.0.0.53\nnameserver 192.0.2.4\n"
      "options edns0\noptions trust-ad ndots:1\n");
  EXPECT_THAT(resolver.servers, ElementsAre("192.0.2.1", "2001:db8::1", "127.0.0.53"));
  EXPECT_THAT(resolver.search, ElementsAre("b.test", "c.test"));
  EXPECT_EQ(resolver.options, "edns0 trust-ad ndots:1");
  EXPECT_TRUE(ParseResolvConf("nameserver nonsense\n\nsearch\n").servers.empty());
  EXPECT_FALSE(ReadHostResolver().servers.empty());
}

}  // namespace
}  // namespace bulkhead::shim
