// containerd-shim-bulkhead-v2: what containerd starts for a pod, and the daemon of each pod.
//
//   containerd-shim-bulkhead-v2 -namespace NS -id ID -address SOCKET ... start|delete
//   containerd-shim-bulkhead-v2 serve --id ID --pod-dir DIR --socket-fd N [...]
// With BULKHEAD_STAND_IN set it is a stand-in (shim/stand_in.h).

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/sys.h"
#include "oci/features.h"
#include "shim/bootstrap.h"
#include "shim/delete_command.h"
#include "shim/serve.h"
#include "shim/serve_options.h"
#include "shim/shim_flags.h"
#include "shim/stand_in.h"
#include "shim/start_command.h"

namespace bulkhead::shim {
namespace {

constexpr char kProgram[] = "bulkhead";  // what users know; the shim is a part of it
constexpr char kRuntime[] = "io.containerd.bulkhead.v2";

constexpr char kUsage[] =
    R"(containerd-shim-bulkhead-v2: runs containerd's pods in virtual machines, one each.

containerd starts it by the name of its runtime, io.containerd.bulkhead.v2, which it looks for in
its PATH; there is nothing to call by hand. `bulkhead run` uses it too.

  containerd-shim-bulkhead-v2 -namespace NS -id ID -address SOCKET [-debug] start
  containerd-shim-bulkhead-v2 -namespace NS -id ID -address SOCKET -bundle DIR delete
  containerd-shim-bulkhead-v2 -v | -info

See docs/containerd.md.
)";

Result<std::string> Info() {
  const std::string input = TRY(ReadStartInput(STDIN_FILENO));
  return FormatRuntimeInfo(
      input, {kRuntime, BULKHEAD_VERSION, "", oci::FeaturesJson(BULKHEAD_VERSION, false)});
}

// stdout is for the engine alone; with `start` stderr is the same pipe, and only failures go there.
int Answer(const Result<std::string>& answer) {
  if (!answer) {
    fmt::print(stderr, "bulkhead: {}\n", answer.error().message());
    return 1;
  }
  return sys::WriteAll(STDOUT_FILENO, *answer) ? 0 : 1;
}

int EngineMain(const std::vector<std::string>& arguments) {
  const auto flags = ParseShimFlags(arguments);
  if (!flags) {
    fmt::print(stderr, "bulkhead: {}\n{}", flags.error().message(), kUsage);
    return 2;
  }
  switch (flags->action) {
    case ShimAction::kVersion:
      fmt::print("{}:\n  Version: {}\n", kProgram, BULKHEAD_VERSION);
      return 0;
    case ShimAction::kInfo:
      return Answer(Info());
    case ShimAction::kStart: {
      Logger quiet(kProgram, -1, LogFormat::kText, LogLevel::kError);
      return Answer(RunStart(*flags, quiet));
    }
    case ShimAction::kDelete: {
      Logger logger(kProgram, STDERR_FILENO, LogFormat::kText, LogLevel::kInfo);
      return Answer(RunDelete(*flags, logger));
    }
    case ShimAction::kServe:
      break;
  }
  fmt::print(stderr, "{}", kUsage);
  return 2;
}

int ServeMain(const std::vector<std::string>& arguments) {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  const auto options = ParseServeOptions(arguments);
  Logger logger(kProgram, STDERR_FILENO, options ? options->log_format : LogFormat::kText,
                options && options->debug ? LogLevel::kDebug : LogLevel::kInfo);
  const Status served = options ? Serve(*options, logger) : Status(tl::unexpected(options.error()));
  if (!served) {
    logger.Error(served.error().message());
  }
  return served ? 0 : options ? 1 : 2;
}

int Main(const std::vector<std::string>& arguments) {
  if (const char* words = std::getenv(kStandInVariable)) {
    return StandInMain(words);
  }
  ::signal(SIGPIPE, SIG_IGN);
  if (!arguments.empty() && arguments[0] == "serve") {
    return ServeMain({arguments.begin() + 1, arguments.end()});
  }
  return EngineMain(arguments);
}

}  // namespace
}  // namespace bulkhead::shim

int main(int argc, char** argv) { return bulkhead::shim::Main({argv + 1, argv + argc}); }
