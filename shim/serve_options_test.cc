#include "shim/serve_options.h"

#include <gtest/gtest.h>

namespace bulkhead::shim {
namespace {

TEST(ServeOptions, BothForms) {
  const auto options = ParseServeOptions({"--id", "a", "--pod-dir=/p", "--socket-fd=3", "--debug",
                                          "--log-format", "json", "--lifeline-fd", "5"});
  ASSERT_TRUE(options) << options.error().message();
  EXPECT_EQ(options->id, "a");
  EXPECT_EQ(options->pod_dir, "/p");
  EXPECT_EQ(options->socket_fd, 3);
  EXPECT_EQ(options->lifeline_fd, 5);
  EXPECT_TRUE(options->debug);
  EXPECT_EQ(options->network, "");
  const auto network =
      ParseServeOptions({"--id", "a", "--pod-dir", "/p", "--socket-fd", "3", "--network", "user",
                         "--publish", "80:8080/tcp", "--publish", "[::1]:53:53/udp"});
  ASSERT_TRUE(network) << network.error().message();
  EXPECT_EQ(network->network, "user");
  ASSERT_EQ(network->publish.size(), 2U);
  EXPECT_EQ(network->publish[1].address, "::1");
  EXPECT_FALSE(options->auto_remove);
  EXPECT_EQ(options->log_format, LogFormat::kJson);
}

TEST(ServeOptions, RefusesByName) {
  EXPECT_EQ(ParseServeOptions({"--nope"}).error().message(), "serve: unknown option --nope");
  EXPECT_EQ(ParseServeOptions({"--id"}).error().message(), "serve: --id needs a value");
  EXPECT_FALSE(ParseServeOptions({"--socket-fd", "x"}));
  EXPECT_EQ(
      ParseServeOptions({"--id", "a", "--pod-dir", "/p", "--socket-fd", "3", "--network", "bridge"})
          .error()
          .message(),
      "serve: --network: user or auto");
  EXPECT_FALSE(ParseServeOptions({"--publish", "x"}));
  EXPECT_FALSE(ParseServeOptions({"--id", "a", "--pod-dir", "relative", "--socket-fd", "3"}));
  EXPECT_FALSE(ParseServeOptions({"--id", "a", "--pod-dir", "/p"}));
}

}  // namespace
}  // namespace bulkhead::shim
