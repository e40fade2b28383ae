#include "cli/engine/hooks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/sys.h"
#include "base/temp_dir.h"

namespace bulkhead::cli {
namespace {

using testing::HasSubstr;

oci::Hook Shell(const std::string& script) { return {"/bin/sh", {"sh", "-c", script}, {}, {}}; }

class HooksTest : public testing::Test {
 protected:
  const TempDir folder_ = *TempDir::Create("/tmp/hooks-test-");
  const std::string out_ = folder_.path() + "/out";
};

TEST_F(HooksTest, ReadTheStateInOrder) {
  ContainerRecord record;
  record.id = "x";
  record.version = "1.0.2";
  record.bundle = "/b";
  const std::string state = StateJson(record, "creating", 7);
  ASSERT_TRUE(
      RunHooks({Shell("cat > " + out_), Shell("echo second >> " + out_)}, "prestart", state));
  const std::string said = *sys::ReadFile(out_);
  ASSERT_TRUE(said.ends_with("second\n"));
  const auto json = nlohmann::json::parse(said.substr(0, said.size() - 7));
  EXPECT_EQ(json["pid"], 7);
  EXPECT_EQ(json["status"], "creating");
  EXPECT_EQ(json["id"], "x");
}

TEST_F(HooksTest, ArgumentsAndEnvironmentAreTheSpecs) {
  const oci::Hook hook{"/bin/sh", {"named", "-c", "echo $0 $A > " + out_}, {"A=b"}, {}};
  ASSERT_TRUE(RunHooks({hook}, "prestart", "{}"));
  EXPECT_EQ(*sys::ReadFile(out_), "named b\n");
}

TEST_F(HooksTest, TheFirstFailureEndsItAndSaysWhy) {
  const Status run =
      RunHooks({Shell("echo oh no >&2; exit 3"), Shell("touch " + out_)}, "createRuntime", "{}");
  ASSERT_FALSE(run);
  EXPECT_THAT(run.error().message(), HasSubstr("hooks.createRuntime[0]"));
  EXPECT_THAT(run.error().message(), HasSubstr("exit status 3"));
  EXPECT_THAT(run.error().message(), HasSubstr("oh no"));
  EXPECT_FALSE(sys::Exists(out_));
  const Status missing = RunHooks({{"/no/such", {}, {}, {}}}, "poststop", "{}");
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message(), HasSubstr("/no/such"));
}

TEST_F(HooksTest, ATimeoutKills) {
  oci::Hook hook = Shell("sleep 100");
  hook.timeout = 1;
  const auto began = std::chrono::steady_clock::now();
  const Status run = RunHooks({hook}, "prestart", "{}");
  ASSERT_FALSE(run);
  EXPECT_THAT(run.error().message(), HasSubstr("timeout of 1 s"));
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(60));
}

}  // namespace
}  // namespace bulkhead::cli
