#include "cli/option_values.h"

#include <signal.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "base/sys.h"
#include "base/text.h"
#include "cli/run_options.h"

namespace bulkhead::cli {
namespace {

constexpr uint64_t kUnlimited = std::numeric_limits<uint64_t>::max();

Result<uint64_t> ParseLimit(std::string_view text) {
  if (text == "unlimited" || text == "-1") {
    return kUnlimited;
  }
  const int64_t value = TRY(ParseInteger(text));
  if (value < 0) {
    return MakeError(ErrorCode::kInvalidArgument, "{} is negative", text);
  }
  return static_cast<uint64_t>(value);
}

Status CheckDestination(const std::string& path) {
  if (!path.starts_with('/') || path.find_first_not_of('/') == std::string::npos) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "\"{}\" is not an absolute path below / in the container", path);
  }
  return {};
}

}  // namespace

Result<int64_t> ParseInteger(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    return MakeError(ErrorCode::kInvalidArgument, "\"{}\" is not a whole number", text);
  }
  return value;
}

std::string UpperCase(std::string_view text) {
  std::string upper(text);
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; });
  return upper;
}

Result<std::chrono::milliseconds> ParseDuration(std::string_view text) {
  const auto bad = [&] {
    return MakeError(ErrorCode::kInvalidArgument,
                     "\"{}\" is not a duration such as 30s, 5m, 1h30m or 90", text);
  };
  double total = 0;
  std::string_view rest = text;
  while (!rest.empty()) {
    double number = 0;
    const auto [end, error] =
        std::from_chars(rest.data(), rest.data() + rest.size(), number, std::chars_format::fixed);
    if (error != std::errc() || !(number >= 0)) {
      return bad();
    }
    rest.remove_prefix(static_cast<size_t>(end - rest.data()));
    const size_t length = std::min(rest.find_first_not_of("hms"), rest.size());
    const std::string_view unit = rest.substr(0, length);
    rest.remove_prefix(length);
    const bool plain = unit.empty() && rest.empty() && total == 0;
    const double factor = unit == "h"            ? 3.6e6
                          : unit == "m"          ? 6e4
                          : unit == "s" || plain ? 1e3
                          : unit == "ms"         ? 1
                                                 : 0;
    if (factor == 0) {
      return bad();
    }
    total += number * factor;
  }
  if (total < 1 || total > 1e12) {
    return bad();
  }
  return std::chrono::milliseconds(static_cast<int64_t>(total));
}

Result<int> ParseSignal(std::string_view text) {
  const auto bad = [&] {
    return MakeError(ErrorCode::kInvalidArgument, "\"{}\" is not a signal", text);
  };
  if (const Result<int64_t> number = ParseInteger(text)) {
    if (*number < 1 || *number > 64) {
      return bad();
    }
    return static_cast<int>(*number);
  }
  std::string name = UpperCase(text);
  if (name.starts_with("SIG")) {
    name.erase(0, 3);
  }
  if (name == "IOT") {
    return SIGABRT;
  }
  for (int number = 1; number < 32; ++number) {
    const char* abbreviation = ::sigabbrev_np(number);
    if (abbreviation != nullptr && name == abbreviation) {
      return number;
    }
  }
  constexpr int kFirst = 34;  // as libc numbers them in the guest too
  constexpr int kLast = 64;
  if (name.starts_with("RTMIN") || name.starts_with("RTMAX")) {
    const std::string offset = name.substr(5);
    const int64_t value =
        offset.empty() ? 0 : TRY(ParseInteger(offset[0] == '+' ? offset.substr(1) : offset));
    const int64_t number = (name.starts_with("RTMIN") ? kFirst : kLast) + value;
    if (number >= kFirst && number <= kLast) {
      return static_cast<int>(number);
    }
  }
  return bad();
}

Result<Volume> ParseVolume(const std::string& text) {
  const std::vector<std::string> parts = SplitText(text, ':');
  if (parts.size() < 2 || parts.size() > 3 || parts[0].empty()) {
    return MakeError(ErrorCode::kInvalidArgument, "\"{}\" is not of the form SRC:DST[:ro]", text);
  }
  Volume volume;
  volume.destination = parts[1];
  TRY(CheckDestination(volume.destination));
  for (const std::string& option : SplitText(parts.size() == 3 ? parts[2] : "rw", ',')) {
    if (option != "ro" && option != "rw") {
      return MakeError(ErrorCode::kInvalidArgument, "\"{}\": option \"{}\" is neither ro nor rw",
                       text, option);
    }
    volume.read_only = option == "ro";
  }
  if (parts[0].find('/') == std::string::npos && parts[0] != "." && parts[0] != "..") {
    return MakeError(ErrorCode::kUnimplemented,
                     "\"{}\": named volumes do not exist yet; a folder is written with a slash "
                     "(./{})",
                     text, parts[0]);
  }
  char resolved[PATH_MAX];
  if (::realpath(parts[0].c_str(), resolved) == nullptr) {
    return MakeErrno(sys::LastErrno(), "{}", parts[0]);
  }
  volume.source = resolved;
  return volume;
}

Result<Tmpfs> ParseTmpfs(const std::string& text) {
  const size_t colon = text.find(':');
  Tmpfs tmpfs;
  tmpfs.destination = text.substr(0, colon);
  TRY(CheckDestination(tmpfs.destination));
  if (colon != std::string::npos && colon + 1 < text.size()) {
    tmpfs.options = SplitText(text.substr(colon + 1), ',');
  }
  return tmpfs;
}

Result<oci::Rlimit> ParseUlimit(const std::string& text) {
  static constexpr std::array<std::string_view, 16> kNames{
      "as",   "core",   "cpu",   "data", "fsize",  "locks",  "memlock",    "msgqueue",
      "nice", "nofile", "nproc", "rss",  "rtprio", "rttime", "sigpending", "stack"};
  const size_t equals = text.find('=');
  const std::string name = text.substr(0, equals);
  if (equals == std::string::npos ||
      std::find(kNames.begin(), kNames.end(), name) == kNames.end()) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "\"{}\" is not of the form NAME=SOFT[:HARD] with a name such as nofile", text);
  }
  const std::vector<std::string> values = SplitText(std::string_view(text).substr(equals + 1), ':');
  if (values.size() > 2) {
    return MakeError(ErrorCode::kInvalidArgument, "\"{}\" has more than two limits", text);
  }
  oci::Rlimit limit;
  limit.type = "RLIMIT_" + UpperCase(name);
  limit.soft = TRY_AS(ParseLimit(values[0]), "\"{}\"", text);
  limit.hard = TRY_AS(ParseLimit(values.back()), "\"{}\"", text);
  if (limit.soft > limit.hard) {
    return MakeError(ErrorCode::kInvalidArgument, "\"{}\": the soft limit is above the hard one",
                     text);
  }
  return limit;
}

Result<std::string> ParseCapability(std::string_view text) {
  std::string name = UpperCase(text);
  if (name == "ALL") {
    return name;
  }
  if (!name.starts_with("CAP_")) {
    name = "CAP_" + name;
  }
  const std::vector<std::string>& all = AllCapabilities();
  if (std::find(all.begin(), all.end(), name) == all.end()) {
    return MakeError(ErrorCode::kInvalidArgument, "\"{}\" is not a capability", text);
  }
  return name;
}

Result<std::optional<std::string>> ParseEnv(const std::string& text) {
  const size_t equals = text.find('=');
  if (text.empty() || equals == 0) {
    return MakeError(ErrorCode::kInvalidArgument, "\"{}\" has no name", text);
  }
  if (equals != std::string::npos) {
    return text;
  }
  const char* value = std::getenv(text.c_str());
  if (value == nullptr) {
    return std::nullopt;
  }
  return text + "=" + value;
}

Result<std::vector<std::string>> ParseEnvFile(std::string_view text, const std::string& name) {
  std::vector<std::string> env;
  size_t number = 0;
  for (std::string line : SplitText(text, '\n')) {
    ++number;
    if (line.ends_with('\r')) {
      line.pop_back();
    }
    line.erase(0, std::min(line.find_first_not_of(" \t"), line.size()));
    if (line.empty() || line[0] == '#') {
      continue;
    }
    const std::string key = line.substr(0, line.find('='));
    if (key.find_first_of(" \t") != std::string::npos) {
      return MakeError(ErrorCode::kInvalidArgument,
                       "--env-file {}:{}: \"{}\" has a space in its name", name, number, key);
    }
    if (line.find('\0') != std::string::npos) {
      return MakeError(ErrorCode::kInvalidArgument, "--env-file {}:{}: holds a NUL byte", name,
                       number);
    }
    const auto assignment = TRY_AS(ParseEnv(line), "--env-file {}:{}", name, number);
    if (assignment) {
      env.push_back(*assignment);
    }
  }
  return env;
}

Status CheckName(std::string_view name) {
  const auto good = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '-';
  };
  if (name.empty() || name.size() > 64 || !std::all_of(name.begin(), name.end(), good) ||
      name[0] == '.' || name[0] == '-' || name[0] == '_') {
    return MakeError(ErrorCode::kInvalidArgument,
                     "\"{}\" is not a container's name: letters, digits, _ . - , 64 at most, "
                     "beginning with a letter or digit",
                     name);
  }
  return {};
}

void SetEnv(std::vector<std::string>& env, std::string_view assignment) {
  const std::string_view key = assignment.substr(0, assignment.find('=') + 1);
  for (std::string& entry : env) {
    if (entry.starts_with(key)) {
      entry = assignment;
      return;
    }
  }
  env.emplace_back(assignment);
}

bool HasEnv(const std::vector<std::string>& env, std::string_view name) {
  return std::any_of(env.begin(), env.end(), [&](const std::string& entry) {
    return entry.size() > name.size() && entry.starts_with(name) && entry[name.size()] == '=';
  });
}

}  // namespace bulkhead::cli
