#include "shim/container_log.h"

#include <gtest/gtest.h>

#include <regex>

#include "base/sys.h"
#include "base/temp_dir.h"

namespace bulkhead::shim {
namespace {

class ContainerLogTest : public ::testing::Test {
 protected:
  std::string path() const { return folder_.path() + "/log"; }
  // Without the times, which every line must have.
  std::string Read(const std::string& file) {
    const std::string text = sys::ReadFile(file, 64U << 20U).value();
    static const std::regex stamp(R"((^|\n)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z )");
    return std::regex_replace(text, stamp, "$1");
  }
  TempDir folder_ = TempDir::Create("/tmp/bulkhead-log-test.").value();
};

TEST_F(ContainerLogTest, LinesAndPartialLines) {
  ContainerLog log(path());
  ASSERT_TRUE(log.Open());
  log.Append(0, "one\ntw");
  log.Append(1, "error\n");
  log.Append(0, "o\n\n");
  log.Append(0, "rest");
  log.Flush();
  EXPECT_EQ(Read(path()), "stdout F one\nstderr F error\nstdout F two\nstdout F \nstdout P rest\n");
}

TEST_F(ContainerLogTest, LongLinesAreCut) {
  ContainerLog log(path());
  ASSERT_TRUE(log.Open());
  log.Append(0, std::string(ContainerLog::kMaxLine + 3, 'x') + "\n");
  EXPECT_EQ(Read(path()),
            "stdout P " + std::string(ContainerLog::kMaxLine, 'x') + "\nstdout F xxx\n");
}

TEST_F(ContainerLogTest, IsBounded) {
  ContainerLog log(path());
  ASSERT_TRUE(log.Open());
  const std::string block(1U << 20U, 'y');
  for (int i = 0; i < 40; ++i) {
    log.Append(0, block);
  }
  EXPECT_LE(static_cast<size_t>(sys::Stat(path())->st_size), ContainerLog::kMaxBytes);
  EXPECT_LE(static_cast<size_t>(sys::Stat(path() + ".1")->st_size), ContainerLog::kMaxBytes);
}

}  // namespace
}  // namespace bulkhead::shim
