// Any bytes as what the shim's start and -info read on stdin, as its command line, and as the
// counters that a guest tells: what comes of them is well-formed.
#include <fcntl.h>
#include <google/protobuf/stubs/logging.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/sys.h"
#include "containerd/cgroups_v1.pb.h"
#include "containerd/cgroups_v2.pb.h"
#include "containerd/introspection.pb.h"
#include "shim/bootstrap.h"
#include "shim/shim_flags.h"
#include "shim/task_metrics.h"

namespace {

using namespace bulkhead;

void Require(bool good) {
  if (!good) {
    std::abort();
  }
}

void Start(std::string_view input, Logger& logger) {
  shim::ShimFlags flags;
  flags.id = "c1";
  flags.container_namespace = "default";
  for (const char* version : {"", "2"}) {
    const auto request = shim::ParseStartRequest(input, flags, {"/ttrpc", version}, logger);
    if (!request) {
      continue;
    }
    const auto& options = request->options;
    Require(!options.config_path || options.config_path->starts_with('/'));
    Require(!options.config_path || !options.config_body);
    Require(!shim::FormatStartAnswer(request->answer, "unix:///s").empty());
  }
  if (const auto info = shim::FormatRuntimeInfo(input, {"name", "1", "", "{}"})) {
    containerd::types::RuntimeInfo message;
    Require(message.ParseFromString(*info) && message.name() == "name");
  }
}

void CommandLine(std::string_view input) {
  std::vector<std::string> arguments;
  for (size_t begin = 0; begin <= input.size();) {
    const size_t end = std::min(input.find('\n', begin), input.size());
    arguments.emplace_back(input.substr(begin, end - begin));
    begin = end + 1;
  }
  if (const auto flags = shim::ParseShimFlags(arguments)) {
    Require(flags->action >= shim::ShimAction::kVersion ||
            flags->id.find('/') == std::string::npos);
  }
}

void Metrics(std::string_view input) {
  agent::v1::ContainerStatsResponse stats;
  if (!stats.ParseFromArray(input.data(), static_cast<int>(input.size()))) {
    return;
  }
  io::containerd::cgroups::v1::Metrics v1;
  Require(v1.ParseFromString(shim::TaskMetrics(stats, shim::CgroupMode::kV1).value()));
  Require(v1.memory().usage().limit() <= 9223372036854771712U);
  io::containerd::cgroups::v2::Metrics v2;
  Require(v2.ParseFromString(shim::TaskMetrics(stats, shim::CgroupMode::kV2).value()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const UniqueFd null = *sys::Open("/dev/null", O_WRONLY);
  static Logger logger("fuzz", null.get(), LogFormat::kText, LogLevel::kDebug);
  google::protobuf::SetLogHandler(nullptr);
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  Start(input, logger);
  CommandLine(input);
  Metrics(input);
  return 0;
}
