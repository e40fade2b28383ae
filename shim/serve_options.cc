#include "shim/serve_options.h"

#include <charconv>
#include <map>

namespace bulkhead::shim {
namespace {

Result<int> ParseFd(const std::string& text) {
  int fd = -1;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), fd);
  if (result.ec != std::errc() || result.ptr != text.data() + text.size() || fd < 0) {
    return MakeError(ErrorCode::kInvalidArgument, "\"{}\" is not a file descriptor", text);
  }
  return fd;
}

}  // namespace

Result<ServeOptions> ParseServeOptions(const std::vector<std::string>& arguments) {
  ServeOptions options;
  std::string log_format = "text";
  const std::map<std::string, bool*> flags{{"--auto-remove", &options.auto_remove},
                                           {"--debug", &options.debug}};
  const std::map<std::string, std::string*> texts{{"--id", &options.id},
                                                  {"--pod-dir", &options.pod_dir},
                                                  {"--data-dir", &options.data_dir},
                                                  {"--config", &options.config},
                                                  {"--accel", &options.accel},
                                                  {"--network", &options.network},
                                                  {"--namespace", &options.engine_namespace},
                                                  {"--ttrpc-address", &options.ttrpc_address},
                                                  {"--socket", &options.socket},
                                                  {"--log-format", &log_format}};
  const std::map<std::string, int*> fds{{"--socket-fd", &options.socket_fd},
                                        {"--lock-fd", &options.lock_fd},
                                        {"--fds-socket-fd", &options.fds_socket_fd},
                                        {"--lifeline-fd", &options.lifeline_fd}};
  for (size_t i = 0; i < arguments.size(); ++i) {
    const size_t equals = arguments[i].find('=');
    const std::string name = arguments[i].substr(0, equals);
    if (const auto flag = flags.find(name); flag != flags.end()) {
      *flag->second = true;
      continue;
    }
    if (!texts.contains(name) && !fds.contains(name) && name != "--publish") {
      return MakeError(ErrorCode::kInvalidArgument, "serve: unknown option {}", name);
    }
    if (equals == std::string::npos && i + 1 == arguments.size()) {
      return MakeError(ErrorCode::kInvalidArgument, "serve: {} needs a value", name);
    }
    const std::string value =
        equals == std::string::npos ? arguments[++i] : arguments[i].substr(equals + 1);
    if (const auto text = texts.find(name); text != texts.end()) {
      *text->second = value;
    } else if (name == "--publish") {
      options.publish.push_back(TRY_AS(ParsePublishedPorts(value), "serve: {}", name));
    } else {
      *fds.at(name) = TRY_AS(ParseFd(value), "serve: {}", name);
    }
  }
  if (log_format != "text" && log_format != "json") {
    return MakeError(ErrorCode::kInvalidArgument, "serve: --log-format: text or json");
  }
  if (!options.network.empty() && options.network != "user" && options.network != "auto") {
    return MakeError(ErrorCode::kInvalidArgument, "serve: --network: user or auto");
  }
  TRY_AS(CheckPublishedPorts(options.publish), "serve: --publish");
  options.log_format = log_format == "json" ? LogFormat::kJson : LogFormat::kText;
  if (options.id.empty() || !options.pod_dir.starts_with('/') || options.socket_fd < 0) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "serve: --id, --pod-dir and --socket-fd are needed");
  }
  return options;
}

}  // namespace bulkhead::shim
