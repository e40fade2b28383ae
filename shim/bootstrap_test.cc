#include "shim/bootstrap.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "base/sys.h"
#include "containerd/bootstrap.pb.h"
#include "containerd/introspection.pb.h"
#include "containerd/mount.pb.h"
#include "containerd/runc.pb.h"
#include "containerd/runtime_options.pb.h"
#include "shim/typed_any.h"

namespace bulkhead::shim {
namespace {

using containerd::runtime::bootstrap::v1::BootstrapParams;
using containerd::runtime::bootstrap::v1::BootstrapResult;
using ::testing::Contains;
using ::testing::HasSubstr;

constexpr char kAddress[] = "unix:///run/containerd/s/0a";

google::protobuf::Any PathOptions(const std::string& path) {
  runtimeoptions::v1::Options options;
  options.set_config_path(path);
  return PackAny(options);
}

google::protobuf::Any RuncOptions() {
  containerd::runc::v1::Options options;
  options.set_binary_name("runc");
  options.set_systemd_cgroup(true);
  return PackAny(options);
}

class Bootstrap : public ::testing::Test {
 protected:
  Result<StartRequest> Parse(std::string_view input, const StartEnvironment& environment = {}) {
    ShimFlags flags;
    flags.action = ShimAction::kStart;
    flags.id = "c1";
    flags.container_namespace = "default";
    return ParseStartRequest(input, flags, environment, logger_);
  }

  std::string Logged() {
    pipe_.write.Reset();
    return *sys::ReadFd(pipe_.read.get(), 65536, "log");
  }

  sys::Pipe pipe_ = *sys::MakePipe();
  Logger logger_{"test", pipe_.write.get(), LogFormat::kText, LogLevel::kDebug};
};

TEST_F(Bootstrap, NoOptions) {
  const auto request = Parse("", {"/run/c.sock.ttrpc", ""});
  ASSERT_TRUE(request);
  EXPECT_EQ(request->answer, StartAnswerForm::kAddress);
  EXPECT_EQ(request->ttrpc_address, "/run/c.sock.ttrpc");
  EXPECT_FALSE(request->options.config_path);
  EXPECT_FALSE(request->options.config_body);
  EXPECT_FALSE(request->debug);
  EXPECT_EQ(Logged(), "");
}

TEST_F(Bootstrap, TheBytesThatContainerd16Sends) {
  constexpr std::string_view kRecorded =
      "\n\x19runtimeoptions.v1.Options\x12)\x12'/etc/kata-containers/configuration.toml";
  const auto request = Parse(kRecorded);
  ASSERT_TRUE(request) << request.error().message();
  EXPECT_EQ(request->answer, StartAnswerForm::kAddress);
  EXPECT_EQ(request->options.config_path, "/etc/kata-containers/configuration.toml");
}

TEST_F(Bootstrap, OptionsUnderEachName) {
  struct Case {
    std::string type_url;
    bool taken;
    bool logged;
  };
  for (const auto& [type_url, taken, logged] :
       {Case{"runtimeoptions.v1.Options", true, false},
        Case{"type.googleapis.com/runtimeoptions.v1.Options", true, false},
        Case{"cri.runtimeoptions.v1.Options", true, false},
        Case{"containerd.runc.v1.Options", false, false},
        Case{"containerd.linux.runc.RuncOptions", false, false},
        Case{"windows.runhcs.v1.Options", false, true}, Case{"", false, false}}) {
    auto any = PathOptions("/etc/b.toml");
    any.set_type_url(type_url);
    auto pipe = *sys::MakePipe();
    Logger logger("test", pipe.write.get(), LogFormat::kText, LogLevel::kDebug);
    const auto options = OptionsFromAny(any, logger);
    pipe.write.Reset();
    ASSERT_TRUE(options) << type_url;
    EXPECT_EQ(options->config_path.has_value(), taken) << type_url;
    EXPECT_EQ(sys::ReadFd(pipe.read.get(), 65536, "log")->find(type_url) != std::string::npos,
              logged || type_url.empty())
        << type_url;
  }
}

TEST_F(Bootstrap, AConfigurationInPerson) {
  runtimeoptions::v1::Options options;
  options.set_config_body("[hypervisor]\n");
  EXPECT_EQ(OptionsFromAny(PackAny(options), logger_)->config_body, "[hypervisor]\n");
  options.set_config_path("/etc/b.toml");  // wins
  const auto both = OptionsFromAny(PackAny(options), logger_);
  EXPECT_EQ(both->config_path, "/etc/b.toml");
  EXPECT_FALSE(both->config_body);
}

TEST_F(Bootstrap, WrongOptionsAreNamed) {
  EXPECT_THAT(Parse("\xff\xff").error().message(), HasSubstr("not a protobuf Any"));
  auto any = PathOptions("relative.toml");
  EXPECT_THAT(Parse(any.SerializeAsString()).error().message(),
              HasSubstr("ConfigPath \"relative.toml\" is not an absolute path"));
  any = PathOptions(std::string("/a\0b", 4));
  EXPECT_FALSE(Parse(any.SerializeAsString()));
  any.set_value("\xff");
  EXPECT_THAT(Parse(any.SerializeAsString()).error().message(),
              HasSubstr("not a runtimeoptions.v1.Options"));
}

TEST_F(Bootstrap, TheAnswerIsWhatTheDaemonUnderstands) {
  EXPECT_EQ(Parse("", {"", "2"})->answer, StartAnswerForm::kJson);
  EXPECT_EQ(Parse("", {"", "3"})->answer, StartAnswerForm::kJson);
  EXPECT_EQ(Parse("", {"", "1"})->answer, StartAnswerForm::kAddress);
  EXPECT_EQ(Parse("", {"", "2x"})->answer, StartAnswerForm::kAddress);
  EXPECT_EQ(Parse(RuncOptions().SerializeAsString(), {"", "2"})->answer, StartAnswerForm::kJson);

  EXPECT_EQ(FormatStartAnswer(StartAnswerForm::kAddress, kAddress), kAddress);
  EXPECT_EQ(FormatStartAnswer(StartAnswerForm::kJson, "unix:///a\"b"),
            R"({"version":2,"address":"unix:///a\"b","protocol":"ttrpc"})");
  BootstrapResult result;
  ASSERT_TRUE(result.ParseFromString(FormatStartAnswer(StartAnswerForm::kProtobuf, kAddress)));
  EXPECT_EQ(result.version(), 2);
  EXPECT_EQ(result.address(), kAddress);
  EXPECT_EQ(result.protocol(), "ttrpc");

  // containerd 2.4 must leave image files to us, and not mount them on the host.
  ASSERT_EQ(result.extensions_size(), 1);
  EXPECT_EQ(TypeName(result.extensions(0).value()), "containerd.types.MountCapabilities");
  containerd::types::MountCapabilities capabilities;
  ASSERT_TRUE(capabilities.ParseFromString(result.extensions(0).value().value()));
  EXPECT_THAT(capabilities.types(), Contains("erofs"));
}

// containerd 2.3 tries protobuf first: the older answers must not happen to parse as such.
TEST_F(Bootstrap, TheOlderAnswersAreNoProtobuf) {
  BootstrapResult result;
  EXPECT_FALSE(result.ParseFromString(FormatStartAnswer(StartAnswerForm::kAddress, kAddress)));
  EXPECT_FALSE(result.ParseFromString(FormatStartAnswer(StartAnswerForm::kJson, kAddress)));
}

TEST_F(Bootstrap, ParametersOfContainerd23) {
  BootstrapParams params;
  params.set_instance_id("c1");
  params.set_namespace_("default");
  params.set_log_level(containerd::runtime::bootstrap::v1::LOG_LEVEL_TRACE);
  params.set_containerd_ttrpc_address("/run/new.ttrpc");
  params.set_socket_dir("/run/s");
  *params.add_extensions()->mutable_value() = RuncOptions();
  *params.add_extensions()->mutable_value() = PathOptions("/etc/b.toml");
  params.add_extensions()->mutable_value()->set_type_url("containerd.io/nri.v1.PluginConfig");
  params.add_extensions();
  const auto request = Parse(params.SerializeAsString(), {"/run/old.ttrpc", "2"});
  ASSERT_TRUE(request) << request.error().message();
  EXPECT_EQ(request->answer, StartAnswerForm::kProtobuf);
  EXPECT_EQ(request->ttrpc_address, "/run/new.ttrpc");
  EXPECT_EQ(request->socket_dir, "/run/s");
  EXPECT_TRUE(request->debug);
  EXPECT_EQ(request->options.config_path, "/etc/b.toml");
  EXPECT_THAT(Logged(), HasSubstr("nri.v1.PluginConfig"));
}

// Up to 1.6 containerd takes stdout and stderr as one: a word of protobuf's would end the start.
TEST_F(Bootstrap, OptionsThatAreNoTextAreNotComplainedOf) {
  containerd::runc::v1::Options options;
  options.set_root(std::string(200, 'r'));  // its length is no UTF-8
  ::testing::internal::CaptureStderr();
  const auto request = Parse(PackAny(options).SerializeAsString());
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  ASSERT_TRUE(request) << request.error().message();
  EXPECT_FALSE(request->options.config_path);
}

TEST_F(Bootstrap, ParametersOfAnotherContainerAreOptions) {
  BootstrapParams params;
  params.set_instance_id("c2");
  params.set_namespace_("default");
  const auto request = Parse(params.SerializeAsString(), {"/run/old.ttrpc", "2"});
  ASSERT_TRUE(request);
  EXPECT_EQ(request->answer, StartAnswerForm::kJson);
  EXPECT_EQ(request->ttrpc_address, "/run/old.ttrpc");
}

TEST_F(Bootstrap, InputIsBounded) {
  auto pipe = *sys::MakePipe();
  std::thread writer([&] {
    (void)sys::WriteAll(pipe.write.get(), std::string(kMaxStartInput + 1, 'x'));
    pipe.write.Reset();
  });
  const auto input = ReadStartInput(pipe.read.get());
  std::string rest;
  while (!sys::ReadFd(pipe.read.get(), 1U << 22U, "rest").value_or("").empty()) {
  }
  writer.join();
  ASSERT_FALSE(input);
  EXPECT_THAT(input.error().message(), HasSubstr("longer than the limit"));
  const UniqueFd null = *sys::Open("/dev/null", O_RDONLY);
  EXPECT_EQ(*ReadStartInput(null.get()), "");
  EXPECT_EQ(*ReadStartInput(-1), "");
}

TEST_F(Bootstrap, Info) {
  const RuntimeDescription runtime{"io.containerd.bulkhead.v2", "1.2.3", "abc", "{}"};
  containerd::types::RuntimeInfo info;
  const std::string options = PathOptions("/etc/b.toml").SerializeAsString();
  ASSERT_TRUE(info.ParseFromString(*FormatRuntimeInfo(options, runtime)));
  EXPECT_EQ(info.name(), "io.containerd.bulkhead.v2");
  EXPECT_EQ(info.version().version(), "1.2.3");
  EXPECT_EQ(info.version().revision(), "abc");
  EXPECT_EQ(info.options().type_url(), "runtimeoptions.v1.Options");
  EXPECT_EQ(info.features().value(), "{}");
  EXPECT_THAT(info.features().type_url(), HasSubstr("features/Features"));
  ASSERT_TRUE(info.ParseFromString(*FormatRuntimeInfo("", {"n", "v", "", ""})));
  EXPECT_FALSE(info.has_options());
  EXPECT_FALSE(info.has_features());
  EXPECT_FALSE(FormatRuntimeInfo("\xff\xff", runtime));
}

}  // namespace
}  // namespace bulkhead::shim
