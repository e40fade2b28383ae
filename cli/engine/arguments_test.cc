#include "cli/engine/arguments.h"

#include <gtest/gtest.h>

namespace bulkhead::cli {
namespace {

using Words = std::vector<std::string>;

bool OnlyBundle(const std::string& path) { return path == "config.json"; }
bool Everything(const std::string& /*path*/) { return true; }

TEST(CommandAt, IsBehindTheGlobalOptions) {
  EXPECT_EQ(CommandAt({"--root", "/r", "--log-format=json", "--debug", "create", "x"}), 4U);
  EXPECT_EQ(CommandAt({"create"}), 0U);
  EXPECT_EQ(CommandAt({"--root"}), 1U);
  EXPECT_EQ(CommandAt({}), 0U);
}

TEST(ChooseRun, ABundleIsNamed) {
  for (const Words& words : {Words{"run", "--bundle", "/b", "x"}, Words{"run", "--bundle=/b", "x"},
                             Words{"run", "-b", "/b", "x"}, Words{"run", "-d", "-b/b", "x"}}) {
    EXPECT_EQ(ChooseRun(words, Everything)[0], kBundleRun) << words[1];
  }
  EXPECT_EQ(ChooseRun({"--root", "/r", "run", "-b", "/b", "x"}, Everything)[2], kBundleRun);
}

TEST(ChooseRun, OneIdBesideAConfig) {
  EXPECT_EQ(ChooseRun({"run", "x"}, OnlyBundle)[0], kBundleRun);
  EXPECT_EQ(ChooseRun({"run", "--detach", "x"}, OnlyBundle)[0], kBundleRun);
  EXPECT_EQ(ChooseRun({"run", "image.tar"}, Everything)[0], "run");
  EXPECT_EQ(ChooseRun({"run", "x", "sh"}, OnlyBundle)[0], "run");
  EXPECT_EQ(ChooseRun({"run", "--rm", "x"}, OnlyBundle)[0], "run");
}

TEST(ChooseRun, OptionsOfTheCommandInsideAreNotOurs) {
  EXPECT_EQ(ChooseRun({"run", "image.tar", "tool", "-b", "/b"}, Everything)[0], "run");
  EXPECT_EQ(ChooseRun({"exec", "-b", "x"}, Everything)[0], "exec");
}

}  // namespace
}  // namespace bulkhead::cli
