#include "oci/spec_coverage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <regex>
#include <set>

#include "base/sys.h"
#include "oci/mount_options.h"

namespace bulkhead::oci {
namespace {

namespace fs = std::filesystem;

const fs::path kSource = BULKHEAD_SOURCE_DIR;

std::string Contents(const fs::path& file) { return sys::ReadFile(file.string()).value_or(""); }

void AddMatches(const std::string& text, const std::regex& pattern, auto add) {
  for (std::sregex_iterator match(text.begin(), text.end(), pattern), end; match != end; ++match) {
    add(*match);
  }
}

// "Suite.Test" of each TEST, "file.py::test_name" of each Python test.
std::set<std::string> TestsOfTheTree() {
  const std::regex cpp(R"(\bTEST(?:_F|_P)?\(\s*(\w+),\s*(\w+)\))");
  const std::regex python(R"((?:^|\n)def (test_\w+)\()");
  std::set<std::string> found;
  for (const char* folder : {"agent", "base", "cli", "oci", "shim", "test"}) {
    for (const auto& entry : fs::recursive_directory_iterator(kSource / folder)) {
      const std::string name = entry.path().filename().string();
      if (name.ends_with("_test.cc")) {
        AddMatches(Contents(entry.path()), cpp, [&](const std::smatch& match) {
          found.insert(match.str(1) + "." + match.str(2));
        });
      } else if (name.starts_with("test_") && name.ends_with(".py")) {
        AddMatches(Contents(entry.path()), python,
                   [&](const std::smatch& match) { found.insert(name + "::" + match.str(1)); });
      }
    }
  }
  return found;
}

// The words of all field cells: "linux.devices[].major" has three.
std::set<std::string> WordsOfTheTable() {
  std::set<std::string> words;
  for (const FieldCoverage& row : SpecCoverage()) {
    AddMatches(std::string(row.field), std::regex(R"(\w+)"),
               [&](const std::smatch& match) { words.insert(match.str()); });
  }
  return words;
}

TEST(SpecCoverage, EveryRowNamesATestThatExists) {
  const std::set<std::string> tests = TestsOfTheTree();
  ASSERT_GT(tests.size(), 100U);
  for (const FieldCoverage& row : SpecCoverage()) {
    EXPECT_TRUE(tests.contains(std::string(row.test)))
        << row.field << ": there is no test \"" << row.test << "\"";
  }
}

TEST(SpecCoverage, EveryFieldStandsThereOnce) {
  std::set<std::string_view> seen;
  for (const FieldCoverage& row : SpecCoverage()) {
    EXPECT_TRUE(seen.insert(row.field).second) << row.field;
  }
}

TEST(SpecCoverage, KnowsEveryFieldThatIsRead) {
  const std::set<std::string> words = WordsOfTheTable();
  const std::regex field(R"((?:Get|Require|Refuse|GetWithoutEffect<\w+>)\("(\w+)\")");
  size_t count = 0;
  for (const auto& entry : fs::directory_iterator(kSource / "oci")) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("spec") || !name.ends_with(".cc") || name.ends_with("_test.cc")) {
      continue;
    }
    AddMatches(Contents(entry.path()), field, [&](const std::smatch& match) {
      ++count;
      EXPECT_TRUE(words.contains(match.str(1))) << name << " reads " << match.str(1);
    });
  }
  EXPECT_GT(count, 100U);
}

TEST(SpecCoverage, KnowsEveryMountOption) {
  const std::set<std::string> words = WordsOfTheTable();
  for (const std::string& option : MountOptionNames()) {
    EXPECT_TRUE(words.contains(option)) << option;
  }
}

TEST(SpecCoverage, TheDocumentIsTheTable) {
  EXPECT_EQ(Contents(kSource / "docs/spec-coverage.md"), SpecCoverageMarkdown())
      << "run scripts/spec-coverage";
}

}  // namespace
}  // namespace bulkhead::oci
