#include "cli/engine/arguments.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace bulkhead::cli {
namespace {

constexpr std::array<std::string_view, 6> kWithValue{"--config", "--root",       "--data",
                                                     "--log",    "--log-format", "--rootless"};
// Of runc's `run`; what is not among them makes it the tool's.
constexpr std::array<std::string_view, 4> kBundleFlags{"-b", "--bundle", "--console-socket",
                                                       "--pid-file"};

template <typename Names>
bool Contains(const Names& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

size_t CommandAt(const std::vector<std::string>& arguments) {
  size_t i = 0;
  while (i < arguments.size() && arguments[i].starts_with('-')) {
    i += Contains(kWithValue, arguments[i]) ? 2 : 1;
  }
  return std::min(i, arguments.size());
}

std::vector<std::string> ChooseRun(std::vector<std::string> arguments,
                                   const std::function<bool(const std::string&)>& exists) {
  const size_t command = CommandAt(arguments);
  if (command == arguments.size() || arguments[command] != "run") {
    return arguments;
  }
  bool bundle = false;
  std::vector<std::string> operands;
  for (size_t i = command + 1; i < arguments.size(); ++i) {
    const std::string& word = arguments[i];
    const std::string name = word.substr(0, word.find('='));
    if (operands.empty() && (Contains(kBundleFlags, name) || word.starts_with("-b"))) {
      bundle = true;
      i += word == name && (word.size() == 2 || word.starts_with("--")) ? 1 : 0;
    } else if (!operands.empty() || !word.starts_with('-')) {
      operands.push_back(word);
    } else if (name != "-d" && name != "--detach" && name != "--keep" &&
               !name.starts_with("--no-")) {
      return arguments;  // an option of ours alone
    }
  }
  const bool id_alone = operands.size() == 1 && !exists(operands[0]) && exists("config.json");
  if (bundle || id_alone) {
    arguments[command] = kBundleRun;
  }
  return arguments;
}

bool IsEngineCommand(const std::string& name) {
  constexpr std::array<std::string_view, 13> kNames{
      "create", "start", "state",    "delete",     "pause",   "resume",  "update",
      "events", "spec",  "features", "checkpoint", "restore", kBundleRun};
  return Contains(kNames, name);
}

}  // namespace bulkhead::cli
