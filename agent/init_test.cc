#include "agent/init.h"

#include <gtest/gtest.h>

namespace bulkhead::agent {
namespace {

TEST(CommandLine, Parses) {
  auto options = ParseCommandLine("console=ttyS0 quiet\n");
  EXPECT_EQ(options->channel, AgentOptions::Channel::kSerial);
  EXPECT_EQ(options->port_name, "agent");
  EXPECT_FALSE(options->debug);
  options = ParseCommandLine("bulkhead.debug bulkhead.channel=vsock:1024 x");
  EXPECT_EQ(options->channel, AgentOptions::Channel::kVsock);
  EXPECT_EQ(options->port, 1024U);
  EXPECT_TRUE(options->debug);
  EXPECT_EQ(ParseCommandLine("bulkhead.channel=serial:foo")->port_name, "foo");
}

TEST(CommandLine, RefusesABadChannel) {
  for (const char* value :
       {"vsock:", "vsock:x", "vsock:1x", "vsock:0", "serial:", "serial:a/b", "tcp:1", ""}) {
    EXPECT_FALSE(ParseCommandLine(std::string("bulkhead.channel=") + value)) << value;
  }
}

}  // namespace
}  // namespace bulkhead::agent
