#include "cli/log_lines.h"

#include <gtest/gtest.h>

namespace bulkhead::cli {
namespace {

constexpr char kLog[] =
    "T1 stdout F one\nT2 stderr F bad\nT3 stdout P tw\nT4 stdout F o\nT5 stdout P end\n";

TEST(LogLinesTest, ParsesALine) {
  const auto line = ParseLogLine("T1 stderr P a b ");
  ASSERT_TRUE(line);
  EXPECT_TRUE(line->is_stderr);
  EXPECT_TRUE(line->partial);
  EXPECT_EQ(line->text, "a b ");
  EXPECT_FALSE(ParseLogLine("T1 stdin F x"));
  EXPECT_FALSE(ParseLogLine("T1 stdout X x"));
  EXPECT_FALSE(ParseLogLine(""));
  EXPECT_EQ(ParseLogLine("T1 stdout F ")->text, "");
}

std::pair<std::string, std::string> PrintAll(std::string_view log, bool times) {
  LogPrinter printer(times);
  std::string out;
  std::string err;
  while (!log.empty()) {
    const size_t end = log.find('\n');
    printer.Print(*ParseLogLine(log.substr(0, end)), out, err);
    log.remove_prefix(end + 1);
  }
  return {out, err};
}

TEST(LogLinesTest, GivesTheBytesBack) {
  EXPECT_EQ(PrintAll(kLog, false), std::pair(std::string("one\ntwo\nend"), std::string("bad\n")));
}

TEST(LogLinesTest, TimesOnlyWhereLinesBegin) {
  EXPECT_EQ(PrintAll(kLog, true).first, "T1 one\nT3 two\nT5 end");
}

TEST(LogLinesTest, FindsTheTail) {
  const std::string_view log = kLog;
  EXPECT_EQ(log.substr(TailOffset(log, 1)), "T5 stdout P end\n");
  EXPECT_EQ(log.substr(TailOffset(log, 2)), "T3 stdout P tw\nT4 stdout F o\nT5 stdout P end\n");
  EXPECT_EQ(TailOffset(log, 4), 0U);
  EXPECT_EQ(TailOffset(log, 9), 0U);
  EXPECT_EQ(TailOffset(log, 0), log.size());
}

}  // namespace
}  // namespace bulkhead::cli
