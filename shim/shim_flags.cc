#include "shim/shim_flags.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <string_view>

namespace bulkhead::shim {
namespace {

constexpr size_t kMaxName = 255;

// What Go's strconv.ParseBool takes.
Result<bool> ParseBool(const std::string& name, std::string_view text) {
  constexpr std::array<std::string_view, 6> kTrue{"1", "t", "T", "true", "TRUE", "True"};
  constexpr std::array<std::string_view, 6> kFalse{"0", "f", "F", "false", "FALSE", "False"};
  if (std::find(kTrue.begin(), kTrue.end(), text) != kTrue.end()) {
    return true;
  }
  if (std::find(kFalse.begin(), kFalse.end(), text) != kFalse.end()) {
    return false;
  }
  return MakeError(ErrorCode::kInvalidArgument, "flag -{}: \"{}\" is neither true nor false", name,
                   text);
}

Result<ShimAction> ParseAction(std::string_view word) {
  if (word == "start") {
    return ShimAction::kStart;
  }
  if (word == "delete") {
    return ShimAction::kDelete;
  }
  return MakeError(ErrorCode::kInvalidArgument, "unknown action \"{}\": start or delete", word);
}

Status CheckName(std::string_view flag, std::string_view name) {
  if (name.empty()) {
    return MakeError(ErrorCode::kInvalidArgument, "flag -{} is needed", flag);
  }
  if (name.size() > kMaxName || name == "." || name == ".." ||
      name.find('/') != std::string_view::npos) {
    return MakeError(ErrorCode::kInvalidArgument, "flag -{}: \"{}\" cannot be a part of a path",
                     flag, name.substr(0, kMaxName));
  }
  return {};
}

struct Flag {
  std::string name;
  std::optional<std::string> value;
};

// "-name", "--name", "-name=value", "--name=value"; none: it is not a flag, and flags end here.
Result<std::optional<Flag>> SplitFlag(const std::string& argument) {
  if (argument.size() < 2 || argument[0] != '-' || argument == "--") {
    return std::optional<Flag>();
  }
  const std::string text = argument.substr(argument[1] == '-' ? 2 : 1);
  if (text[0] == '-' || text[0] == '=') {
    return MakeError(ErrorCode::kInvalidArgument, "bad flag {}", argument);
  }
  const size_t equals = text.find('=');
  Flag flag{text.substr(0, equals), std::nullopt};
  if (equals != std::string::npos) {
    flag.value = text.substr(equals + 1);
  }
  return std::optional<Flag>(std::move(flag));
}

struct Switches {
  bool version = false;
  bool info = false;
};

// Returns the arguments after the flags.
Result<std::vector<std::string>> TakeFlags(const std::vector<std::string>& arguments,
                                           ShimFlags& flags, Switches& switches) {
  const std::map<std::string, bool*> bools{{"debug", &flags.debug},
                                           {"info", &switches.info},
                                           {"v", &switches.version},
                                           {"version", &switches.version}};
  const std::map<std::string, std::string*> texts{{"address", &flags.address},
                                                  {"bundle", &flags.bundle},
                                                  {"debug-socket", &flags.debug_socket},
                                                  {"id", &flags.id},
                                                  {"namespace", &flags.container_namespace},
                                                  {"publish-binary", &flags.publish_binary},
                                                  {"socket", &flags.socket}};
  size_t at = 0;
  for (; at < arguments.size(); ++at) {
    const auto flag = TRY(SplitFlag(arguments[at]));
    if (!flag) {
      break;
    }
    if (const auto found = bools.find(flag->name); found != bools.end()) {
      *found->second = !flag->value || TRY(ParseBool(flag->name, *flag->value));
      continue;
    }
    const auto found = texts.find(flag->name);
    if (found == texts.end()) {
      return MakeError(ErrorCode::kInvalidArgument, "unknown flag -{}", flag->name);
    }
    if (!flag->value && at + 1 == arguments.size()) {
      return MakeError(ErrorCode::kInvalidArgument, "flag -{} needs a value", flag->name);
    }
    *found->second = flag->value ? *flag->value : arguments[++at];
  }
  at += at < arguments.size() && arguments[at] == "--" ? 1 : 0;
  return std::vector<std::string>(arguments.begin() + static_cast<ptrdiff_t>(at), arguments.end());
}

}  // namespace

Result<ShimFlags> ParseShimFlags(const std::vector<std::string>& arguments) {
  ShimFlags flags;
  Switches switches;
  const auto rest = TRY(TakeFlags(arguments, flags, switches));
  if (switches.version || switches.info) {
    flags.action = switches.version ? ShimAction::kVersion : ShimAction::kInfo;
    return flags;
  }
  if (!rest.empty()) {
    flags.action = TRY(ParseAction(rest.front()));
  }
  TRY(CheckName("namespace", flags.container_namespace));
  TRY(CheckName("id", flags.id));
  return flags;
}

}  // namespace bulkhead::shim
