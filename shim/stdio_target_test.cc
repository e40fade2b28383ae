#include "shim/stdio_target.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/sys.h"
#include "base/temp_dir.h"

namespace bulkhead::shim {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(StdioUri, Forms) {
  EXPECT_EQ(ParseStdioUri("/run/fifo")->scheme, "fifo");
  EXPECT_EQ(ParseStdioUri("fifo:///run/fifo")->path, "/run/fifo");
  EXPECT_EQ(ParseStdioUri("file:///var/log/a%20b")->path, "/var/log/a b");
  const auto binary = ParseStdioUri("binary:///bin/logger?--tag=a%26b&-v&x=");
  EXPECT_EQ(binary->scheme, "binary");
  EXPECT_EQ(binary->path, "/bin/logger");
  EXPECT_THAT(binary->arguments, ElementsAre("--tag", "a&b", "-v", "x"));
}

TEST(StdioUri, ErrorsNameTheText) {
  for (const char* bad : {"http://x/y", "file://relative", "file:///a%2", "file:///a%zz",
                          "file:///a%00b", "binary://?x=y"}) {
    const auto uri = ParseStdioUri(bad);
    ASSERT_FALSE(uri) << bad;
  }
  EXPECT_THAT(ParseStdioUri("http://x/y").error().message(), HasSubstr("http://x/y"));
}

class StdioTargetTest : public ::testing::Test {
 protected:
  void SetUp() override { folder_.emplace(TempDir::Create("/tmp/stdio-target-").value()); }
  std::string Path(const char* name) const { return folder_->path() + "/" + name; }
  std::optional<TempDir> folder_;
};

TEST_F(StdioTargetTest, AFifoThatWaitsForItsReaderOutlivesOne) {
  ASSERT_TRUE(sys::Mkfifo(Path("out"), 0600));
  UniqueFd reader = sys::Open(Path("out"), O_RDONLY | O_NONBLOCK).value();
  StdioPolicy policy;
  policy.wait_for_reader = true;
  auto targets = OpenStdioTargets({"", Path("out"), ""}, policy);
  ASSERT_TRUE(targets) << targets.error().message();
  reader.Reset();
  EXPECT_TRUE(sys::WriteAll(targets->out.get(), "kept"));
  reader = sys::Open(Path("out"), O_RDONLY | O_NONBLOCK).value();
  std::array<std::byte, 16> buffer{};
  EXPECT_EQ(sys::Read(reader.get(), buffer).value_or(0), 4U);
}

TEST_F(StdioTargetTest, AFileIsAppendedTo) {
  ASSERT_TRUE(sys::WriteFile(Path("log"), "old "));
  auto targets = OpenStdioTargets({"", "file://" + Path("log"), ""}, {});
  ASSERT_TRUE(targets);
  ASSERT_TRUE(sys::WriteAll(targets->out.get(), "new"));
  EXPECT_EQ(sys::ReadFile(Path("log"), 100).value(), "old new");
}

TEST_F(StdioTargetTest, ALoggingProgramGetsBothStreamsAndItsArguments) {
  ASSERT_TRUE(
      sys::WriteFile(Path("logger"),
                     "#!/bin/sh\nexec >\"$1\"\necho \"$CONTAINER_NAMESPACE $CONTAINER_ID\"\n"
                     "exec 5>&-\ncat <&3\ncat <&4\n",
                     0755));
  SpawnThread spawner;
  StdioPolicy policy{true, "ns", "id", &spawner};
  const std::string uri = "binary://" + Path("logger") + "?" + Path("result");
  {
    auto targets = OpenStdioTargets({"", uri, uri}, policy);
    ASSERT_TRUE(targets) << targets.error().message();
    ASSERT_TRUE(sys::WriteAll(targets->out.get(), "out\n"));
    ASSERT_TRUE(sys::WriteAll(targets->err.get(), "err\n"));
    targets->out.Reset();
    targets->err.Reset();
  }
  EXPECT_EQ(sys::ReadFile(Path("result"), 100).value(), "ns id\nout\nerr\n");
}

TEST_F(StdioTargetTest, ErrorsNameTheStreamAndTheTarget) {
  const auto missing = OpenStdioTargets({"", Path("none"), ""}, {});
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message(), HasSubstr("stdout"));
  EXPECT_THAT(missing.error().message(), HasSubstr("none"));
  SpawnThread spawner;
  const auto program =
      OpenStdioTargets({"", "binary:///nonexistent/logger", ""}, {false, "", "", &spawner});
  ASSERT_FALSE(program);
  EXPECT_THAT(program.error().message(), HasSubstr("/nonexistent/logger"));
}

}  // namespace
}  // namespace bulkhead::shim
