#include "shim/stdio_target.h"

#include <fcntl.h>
#include <poll.h>

#include <cerrno>
#include <charconv>
#include <string_view>
#include <utility>
#include <vector>

#include "base/sys.h"
#include "shim/fd_store.h"

extern char** environ;

namespace bulkhead::shim {
namespace {

constexpr int kPipeBytes = 1 << 20;
constexpr std::chrono::seconds kLoggerStart(10);
constexpr std::chrono::seconds kLoggerEnd(10);
constexpr std::chrono::milliseconds kLoggerEndSeen(10);

Result<std::string> PercentDecode(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i] == '+' ? ' ' : text[i];
      continue;
    }
    unsigned value = 0;
    const char* const digits = text.data() + i + 1;
    if (i + 2 >= text.size() || std::from_chars(digits, digits + 2, value, 16).ptr != digits + 2) {
      return MakeError(ErrorCode::kInvalidArgument, "\"{}\": bad %-escape", text);
    }
    out += static_cast<char>(value);
    i += 2;
  }
  if (out.find('\0') != std::string::npos) {
    return MakeError(ErrorCode::kInvalidArgument, "\"{}\": contains a zero byte", text);
  }
  return out;
}

// Without a reader yet, O_RDWR opens all the same (Linux, fifo(7)).
Result<UniqueFd> OpenFifo(const std::string& path, bool wait_for_reader) {
  auto fd = sys::Open(path, (wait_for_reader ? O_RDWR : O_WRONLY) | O_NONBLOCK);
  if (!fd && fd.error().errnum() == ENXIO) {
    fd = sys::Open(path, O_RDWR | O_NONBLOCK);
  }
  if (fd) {
    ::fcntl(fd->get(), F_SETPIPE_SZ, kPipeBytes);  // as far as the user's limit lets it
  }
  return fd;
}

Result<UniqueFd> TakeFd(const std::string& text, const StdioPolicy& policy, int access) {
  if (policy.fds == nullptr) {
    return MakeError(ErrorCode::kUnimplemented, "{}: open files are not taken here", text);
  }
  return NonblockingCopy(TRY(policy.fds->Take(text)), access);
}

Result<UniqueFd> OpenOutput(const std::string& text, const StdioUri& uri,
                            const StdioPolicy& policy) {
  if (uri.scheme == "fd") {
    return TakeFd(text, policy, O_WRONLY);
  }
  if (uri.scheme == "file") {
    return sys::Open(uri.path, O_WRONLY | O_CREAT | O_APPEND, 0644);
  }
  return OpenFifo(uri.path, policy.wait_for_reader);
}

std::vector<std::string> LoggerEnvironment(const StdioPolicy& policy) {
  std::vector<std::string> env;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    env.emplace_back(*entry);
  }
  env.push_back("CONTAINER_ID=" + policy.container_id);
  env.push_back("CONTAINER_NAMESPACE=" + policy.engine_namespace);
  return env;
}

Status StartLogger(const StdioUri& uri, const StdioPolicy& policy, StdioTargets& targets) {
  if (policy.spawner == nullptr) {
    return MakeError(ErrorCode::kUnimplemented, "logging programs are not supported here");
  }
  sys::Pipe out = TRY(sys::MakePipe());
  sys::Pipe err = TRY(sys::MakePipe());
  sys::Pipe ready = TRY(sys::MakePipe());
  SpawnOptions spawn;
  spawn.argv = {uri.path};
  spawn.argv.insert(spawn.argv.end(), uri.arguments.begin(), uri.arguments.end());
  spawn.env = LoggerEnvironment(policy);
  spawn.fds = {{out.read.get(), 3}, {err.read.get(), 4}, {ready.write.get(), 5}};
  Child logger = TRY(policy.spawner->Spawn(spawn));  // killed at once if it is of no use
  ready.write.Reset();
  if (!TRY(sys::PollOne(ready.read.get(), POLLIN, kLoggerStart))) {
    return MakeError(ErrorCode::kDeadlineExceeded, "{}: was not ready (fd 5 stays open) in {} s",
                     uri.path, kLoggerStart.count());
  }
  // An end closes the pipe, too, a moment before it can be seen.
  if (const auto ended = TRY(logger.Wait(kLoggerEndSeen))) {
    return MakeError(ErrorCode::kFailedPrecondition, "{}: ended at once, with code {}", uri.path,
                     ended->ShellCode());
  }
  targets.logger.emplace(std::move(logger));
  targets.out = std::move(out.write);
  targets.err = std::move(err.write);
  TRY(sys::SetNonblocking(targets.out.get(), true));
  return sys::SetNonblocking(targets.err.get(), true);
}

Status OpenOutputs(const StdioPaths& paths, const StdioPolicy& policy, StdioTargets& targets) {
  if (!paths.out.empty()) {
    const StdioUri uri = TRY_AS(ParseStdioUri(paths.out), "stdout");
    if (uri.scheme == "binary") {
      return StartLogger(uri, policy, targets);
    }
    targets.out = TRY_AS(OpenOutput(paths.out, uri, policy), "stdout");
  }
  if (!paths.err.empty()) {
    const StdioUri uri = TRY_AS(ParseStdioUri(paths.err), "stderr");
    if (uri.scheme == "binary") {
      return MakeError(ErrorCode::kInvalidArgument,
                       "stderr: a logging program takes both streams, and stdout is not its");
    }
    targets.err = TRY_AS(OpenOutput(paths.err, uri, policy), "stderr");
  }
  return {};
}

}  // namespace

StdioLogger::~StdioLogger() {
  if (child_.pid() > 0) {
    (void)child_.Wait(kLoggerEnd);
  }
}

Result<StdioUri> ParseStdioUri(const std::string& text) {
  const size_t colon = text.find("://");
  if (colon == std::string::npos) {
    return StdioUri{"fifo", text, {}};
  }
  StdioUri uri;
  uri.scheme = text.substr(0, colon);
  if (uri.scheme == "fd") {
    return uri;
  }
  if (uri.scheme != "fifo" && uri.scheme != "file" && uri.scheme != "binary") {
    return MakeError(ErrorCode::kInvalidArgument,
                     "\"{}\": expected a path, fifo://, file:// or binary://", text);
  }
  std::string_view rest = std::string_view(text).substr(colon + 3);
  const size_t question = rest.find('?');
  uri.path = TRY(PercentDecode(rest.substr(0, question)));
  if (!uri.path.starts_with('/')) {
    return MakeError(ErrorCode::kInvalidArgument, "\"{}\": the path must be absolute", text);
  }
  std::string_view query = question == std::string_view::npos ? "" : rest.substr(question + 1);
  while (!query.empty()) {
    const std::string_view pair = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), pair.size() + 1));
    const size_t equals = pair.find('=');
    uri.arguments.push_back(TRY(PercentDecode(pair.substr(0, equals))));
    if (equals != std::string_view::npos && equals + 1 < pair.size()) {
      uri.arguments.push_back(TRY(PercentDecode(pair.substr(equals + 1))));
    }
  }
  return uri;
}

Result<StdioTargets> OpenStdioTargets(const StdioPaths& paths, const StdioPolicy& policy) {
  StdioTargets targets;
  if (!paths.in.empty()) {
    targets.in = TRY_AS(paths.in.starts_with("fd://") ? TakeFd(paths.in, policy, O_RDONLY)
                                                      : sys::Open(paths.in, O_RDONLY | O_NONBLOCK),
                        "stdin");
  }
  TRY(OpenOutputs(paths, policy, targets));
  return targets;
}

}  // namespace bulkhead::shim
