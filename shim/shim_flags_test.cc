#include "shim/shim_flags.h"

#include <gtest/gtest.h>

namespace bulkhead::shim {
namespace {

using Arguments = std::vector<std::string>;

TEST(ShimFlags, WhatContainerdGivesToStart) {
  const auto flags =
      ParseShimFlags({"-namespace", "default", "-address", "/run/c.sock", "-publish-binary",
                      "/usr/bin/containerd", "-id", "c1", "-debug", "start"});
  ASSERT_TRUE(flags) << flags.error().message();
  EXPECT_EQ(flags->action, ShimAction::kStart);
  EXPECT_EQ(flags->container_namespace, "default");
  EXPECT_EQ(flags->address, "/run/c.sock");
  EXPECT_EQ(flags->publish_binary, "/usr/bin/containerd");
  EXPECT_EQ(flags->id, "c1");
  EXPECT_EQ(flags->bundle, "");
  EXPECT_TRUE(flags->debug);
}

TEST(ShimFlags, WhatContainerdGivesToDelete) {
  const auto flags = ParseShimFlags({"-namespace", "k8s.io", "-address", "", "-publish-binary",
                                     "containerd", "-id", "c1", "-bundle", "/b", "delete"});
  ASSERT_TRUE(flags) << flags.error().message();
  EXPECT_EQ(flags->action, ShimAction::kDelete);
  EXPECT_EQ(flags->bundle, "/b");
  EXPECT_EQ(flags->address, "");
  EXPECT_FALSE(flags->debug);
}

TEST(ShimFlags, EveryFormOfGo) {
  const auto flags = ParseShimFlags({"--namespace=a=b", "-id=x", "--socket", "-odd", "-debug=T",
                                     "--debug-socket=", "-debug-socket", "/d"});
  ASSERT_TRUE(flags) << flags.error().message();
  EXPECT_EQ(flags->action, ShimAction::kServe);
  EXPECT_EQ(flags->container_namespace, "a=b");
  EXPECT_EQ(flags->id, "x");
  EXPECT_EQ(flags->socket, "-odd");  // a value may begin with a dash
  EXPECT_EQ(flags->debug_socket, "/d");
  EXPECT_TRUE(flags->debug);
}

TEST(ShimFlags, Booleans) {
  struct Case {
    std::string argument;
    bool value;
  };
  for (const auto& [argument, value] :
       {Case{"-debug", true}, Case{"--debug", true}, Case{"-debug=1", true},
        Case{"-debug=True", true}, Case{"-debug=false", false}, Case{"--debug=0", false},
        Case{"-debug=F", false}}) {
    const auto flags = ParseShimFlags({"-namespace=n", "-id=i", argument, "start"});
    ASSERT_TRUE(flags) << argument;
    EXPECT_EQ(flags->debug, value) << argument;
    EXPECT_EQ(flags->action, ShimAction::kStart) << argument;
  }
}

TEST(ShimFlags, VersionAndInfoNeedNothingElse) {
  EXPECT_EQ(ParseShimFlags({"-v"})->action, ShimAction::kVersion);
  EXPECT_EQ(ParseShimFlags({"--version"})->action, ShimAction::kVersion);
  EXPECT_EQ(ParseShimFlags({"-info"})->action, ShimAction::kInfo);
  EXPECT_EQ(ParseShimFlags({"-v=false", "-namespace=n", "-id=i"})->action, ShimAction::kServe);
}

TEST(ShimFlags, FlagsEndAtTheFirstWord) {
  EXPECT_EQ(ParseShimFlags({"-namespace=n", "-id=i", "--", "start"})->action, ShimAction::kStart);
  EXPECT_EQ(ParseShimFlags({"-namespace=n", "-id=i", "--"})->action, ShimAction::kServe);
  EXPECT_FALSE(ParseShimFlags({"-namespace=n", "-id=i", "start", "-debug"})->debug);
}

TEST(ShimFlags, RefusesByName) {
  struct Case {
    Arguments arguments;
    std::string error;
  };
  const Case cases[] = {
      {{"-nope", "start"}, "unknown flag -nope"},
      {{"--nope=1"}, "unknown flag -nope"},
      {{"-id"}, "flag -id needs a value"},
      {{"---id", "x"}, "bad flag ---id"},
      {{"-=x"}, "bad flag -=x"},
      {{"-debug=maybe"}, "flag -debug: \"maybe\" is neither true nor false"},
      {{"-id=i", "start"}, "flag -namespace is needed"},
      {{"-namespace=n", "start"}, "flag -id is needed"},
      {{}, "flag -namespace is needed"},
      {{"-namespace=n", "-id=i", "stop"}, "unknown action \"stop\": start or delete"},
      {{"-namespace=n", "-id=i", "-"}, "unknown action \"-\": start or delete"},
      {{"-namespace=n", "-id=../i"}, "flag -id: \"../i\" cannot be a part of a path"},
      {{"-namespace=..", "-id=i"}, "flag -namespace: \"..\" cannot be a part of a path"},
  };
  for (const auto& [arguments, error] : cases) {
    const auto flags = ParseShimFlags(arguments);
    ASSERT_FALSE(flags) << error;
    EXPECT_EQ(flags.error().message(), error);
    EXPECT_EQ(flags.error().code(), ErrorCode::kInvalidArgument);
  }
  EXPECT_FALSE(ParseShimFlags({"-namespace=n", "-id", std::string(256, 'x')}));
}

}  // namespace
}  // namespace bulkhead::shim
