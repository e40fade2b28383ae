#include "cli/run_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <CLI/CLI.hpp>

#include "cli/run_network.h"

namespace bulkhead::cli {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;

Result<RunOptions> Parse(std::vector<std::string> words) {
  CLI::App app;
  app.set_help_flag("--help");
  RawRunOptions raw;
  AddRunOptions(app, raw);
  app.prefix_command();
  std::reverse(words.begin(), words.end());
  app.parse(words);
  raw.rest = app.remaining();
  return ParseRunOptions(raw);
}

TEST(RunOptionsTest, WhatFollowsTheImageIsTheCommand) {
  const auto options =
      Parse({"-it", "-e", "A=1", "-e", "B=x y", "image", "ls", "-l", "--rm", "--"});
  ASSERT_TRUE(options) << options.error().message();
  EXPECT_EQ(options->image, "image");
  EXPECT_THAT(options->command, ElementsAre("ls", "-l", "--rm", "--"));
  EXPECT_THAT(options->env, ElementsAre("A=1", "B=x y"));
  EXPECT_TRUE(options->interactive && options->terminal);
  EXPECT_FALSE(options->auto_remove);
}

TEST(RunOptionsTest, EmptyEntrypointIsKept) {
  const auto options = Parse({"--entrypoint", "", "image"});
  ASSERT_TRUE(options);
  ASSERT_TRUE(options->entrypoint);
  EXPECT_EQ(*options->entrypoint, "");
}

TEST(RunOptionsTest, UpperBecomesAnnotations) {
  const auto of = [](std::vector<std::string> words) {
    return Parse(std::move(words))->annotations;
  };
  using Map = std::map<std::string, std::string>;
  EXPECT_EQ(of({"i"}), Map());
  EXPECT_EQ(of({"--upper", "memory", "i"}), (Map{{"io.bulkhead.rootfs.upper", "memory"}}));
  EXPECT_EQ(of({"--upper", "block:2g", "--upper-folder", "/a", "--upper-folder", "/b", "i"}),
            (Map{{"io.bulkhead.rootfs.upper", "block"},
                 {"io.bulkhead.rootfs.upper.size", "2g"},
                 {"io.bulkhead.rootfs.upper.folders", "/a:/b"}}));
}

TEST(RunOptionsTest, NetworkOptions) {
  const auto options =
      Parse({"-p", "8080:80", "--publish", "[::1]:53:53/udp", "--dns", "192.0.2.1", "--dns", "::1",
             "--dns-search", "a.test", "--add-host", "db:[2001:db8::1]", "image"});
  ASSERT_TRUE(options) << options.error().message();
  EXPECT_EQ(options->network, "user");  // for ports are asked for
  EXPECT_EQ(options->publish.size(), 2U);
  EXPECT_THAT(options->dns, ElementsAre("192.0.2.1", "::1"));
  EXPECT_THAT(options->dns_search, ElementsAre("a.test"));
  ASSERT_EQ(options->add_hosts.size(), 1U);
  EXPECT_EQ(options->add_hosts[0], std::pair(std::string("db"), std::string("2001:db8::1")));
  EXPECT_EQ(Parse({"image"})->network, "");
  EXPECT_EQ(Parse({"--network", "none", "image"})->network, "none");
}

TEST(RunOptionsTest, FilesOfTheNetwork) {
  const auto text = [](std::vector<std::string> words, bool network,
                       const shim::HostResolver& host) {
    words.emplace_back("image");
    return ResolvConfFile(*Parse(std::move(words)), network, host);
  };
  const shim::HostResolver host{{"127.0.0.53", "192.0.2.1", "10.0.2.3"}, {"a.test"}, "edns0"};
  EXPECT_EQ(text({}, true, host), "nameserver 192.0.2.1\nsearch a.test\noptions edns0\n");
  EXPECT_EQ(text({}, true, {{"127.0.0.53"}, {}, ""}), "nameserver 10.0.2.3\n");
  EXPECT_EQ(text({}, true, {{"2001:db8::1"}, {}, ""}), "nameserver fd62:756c:6b68::3\n");
  EXPECT_EQ(text({"--dns", "192.0.2.9", "--dns-search", "."}, true, host),
            "nameserver 192.0.2.9\n");
  EXPECT_EQ(text({}, false, host), "# this container has no network\n");
  const auto options = Parse({"--domainname", "d.test", "--add-host", "db:192.0.2.7", "image"});
  EXPECT_EQ(HostsFile(*options, "me", true),
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
            "10.0.2.15\tme.d.test me\n192.0.2.7\tdb\n");
  EXPECT_THAT(HostsFile(*options, "me", false), HasSubstr("127.0.1.1\tme.d.test me\n"));
}

TEST(RunOptionsTest, ErrorsNameTheOption) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases{
      {{"-m", "1m", "i"}, "--memory"},
      {{"--network", "host", "i"}, "--network"},
      {{"-p", "x", "i"}, "--publish: \"x\""},
      {{"-p", "1-65535:1-65535", "i"}, "--publish: 65535 ports"},
      {{"-p", "80:80", "--network", "none", "i"}, "--publish and --network none"},
      {{"--dns", "a.test", "i"}, "--dns: \"a.test\""},
      {{"--dns-search", "a b", "i"}, "--dns-search: \"a b\""},
      {{"--add-host", "db", "i"}, "--add-host: \"db\""},
      {{"--add-host", "db:host-gateway", "i"}, "--add-host: \"host-gateway\""},
      {{"--add-host", "d\nb:192.0.2.1", "i"}, "--add-host"},
      {{"--cpus", "x", "i"}, "--cpus"},
      {{"--upper-folder", "/a", "i"}, "--upper-folder"},
      {{"--upper", "shared", "--upper-folder", "/a", "i"}, "--upper-folder"},
      {{"--cap-add", "FLY", "i"}, "--cap-add"},
      {{"--ulimit", "nofile", "i"}, "--ulimit"},
      {{"-v", "/nonexistent:/x", "i"}, "--volume"},
      {{"-v", "data:/x", "i"}, "--volume"},
      {{"--tmpfs", "x", "i"}, "--tmpfs"},
      {{"--timeout", "1x", "i"}, "--timeout"},
      {{"--name", "a/b", "i"}, "--name"},
      {{"--security-opt", "label=x", "i"}, "--security-opt"},
      {{"--mount", "x", "i"}, "--mount"},
      {{"-d", "--timeout", "3", "i"}, "--timeout"},
      {{}, "IMAGE"}};
  for (const auto& [words, wanted] : cases) {
    const auto options = Parse(words);
    ASSERT_FALSE(options) << wanted;
    EXPECT_THAT(options.error().message(), HasSubstr(wanted));
  }
}

TEST(RunOptionsTest, Durations) {
  EXPECT_EQ(ParseDuration("30s").value(), milliseconds(30000));
  EXPECT_EQ(ParseDuration("90").value(), milliseconds(90000));
  EXPECT_EQ(ParseDuration("1h30m").value(), milliseconds(5400000));
  EXPECT_EQ(ParseDuration("1.5s").value(), milliseconds(1500));
  EXPECT_EQ(ParseDuration("250ms").value(), milliseconds(250));
  for (const char* bad : {"", "s", "-1", "1x", "1m30", "0", "nan", "inf"}) {
    EXPECT_FALSE(ParseDuration(bad)) << bad;
  }
}

TEST(RunOptionsTest, Signals) {
  EXPECT_EQ(ParseSignal("TERM").value(), SIGTERM);
  EXPECT_EQ(ParseSignal("sigquit").value(), SIGQUIT);
  EXPECT_EQ(ParseSignal("9").value(), SIGKILL);
  EXPECT_EQ(ParseSignal("SIGRTMIN+3").value(), 37);
  EXPECT_EQ(ParseSignal("RTMAX-1").value(), 63);
  for (const char* bad : {"", "0", "65", "NOPE", "RTMIN-1", "RTMAX+1"}) {
    EXPECT_FALSE(ParseSignal(bad)) << bad;
  }
}

TEST(RunOptionsTest, Ulimits) {
  const auto limit = ParseUlimit("nofile=10:20");
  ASSERT_TRUE(limit);
  EXPECT_EQ(limit->type, "RLIMIT_NOFILE");
  EXPECT_EQ(limit->soft, 10U);
  EXPECT_EQ(limit->hard, 20U);
  EXPECT_EQ(ParseUlimit("core=-1")->hard, UINT64_MAX);
  EXPECT_FALSE(ParseUlimit("nofile=20:10"));
  EXPECT_FALSE(ParseUlimit("nofile=1:2:3"));
}

TEST(RunOptionsTest, EnvFile) {
  ::setenv("CLI_TEST_SET", "v", 1);
  const auto env = ParseEnvFile("# c\n\nA=1\r\n  B= x\nCLI_TEST_SET\nCLI_TEST_UNSET\n", "f");
  ASSERT_TRUE(env);
  EXPECT_THAT(*env, ElementsAre("A=1", "B= x", "CLI_TEST_SET=v"));
  EXPECT_FALSE(ParseEnvFile("A B=1\n", "f"));
  EXPECT_FALSE(ParseEnvFile("=1\n", "f"));
}

TEST(RunOptionsTest, Volumes) {
  const auto volume = ParseVolume("/usr/../usr:/data:ro");
  ASSERT_TRUE(volume);
  EXPECT_EQ(volume->source, "/usr");
  EXPECT_EQ(volume->destination, "/data");
  EXPECT_TRUE(volume->read_only);
  EXPECT_FALSE(ParseVolume("/usr:data"));
  EXPECT_FALSE(ParseVolume("/usr:/"));
  EXPECT_FALSE(ParseVolume("/usr:/data:z"));
}

}  // namespace
}  // namespace bulkhead::cli
