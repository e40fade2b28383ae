#include "cli/globals.h"

#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

#include "base/sys.h"

namespace bulkhead::cli {

void AddGlobalOptions(CLI::App& app, GlobalOptions& options) {
  const std::string group = "Global options";
  app.add_option("--config", options.config,
                 "Configuration file (default: $BULKHEAD_CONFIG, then /etc/bulkhead/config.toml)")
      ->type_name("FILE")
      ->group(group);
  app.add_option("--root", options.root, "Folder of the running containers' state")
      ->type_name("DIR")
      ->group(group);
  app.add_option("--data", options.data, "Folder of unpacked layers and writable layers")
      ->type_name("DIR")
      ->group(group);
  app.add_option("--log-format", options.log_format, "How messages on stderr look: text or json")
      ->type_name("FORMAT")
      ->check(CLI::IsMember({"text", "json"}))
      ->group(group);
  app.add_option("--log", options.log, "Append messages to a file, too, as engines read them")
      ->type_name("FILE")
      ->group(group);
  app.add_flag("--debug", options.debug, "Say more, with a timeline of the start")->group(group);
  app.add_flag("--systemd-cgroup", options.systemd_cgroup,
               "linux.cgroupsPath is of the form slice:prefix:name")
      ->group(group);
  app.add_option("--rootless", options.rootless, "Taken for runc's sake: only root can start VMs")
      ->type_name("BOOL")
      ->check(CLI::IsMember({"auto", "true", "false"}))
      ->group(group);
}

Context::Context(const GlobalOptions& options)
    : options_(options),
      logger_("bulkhead", STDERR_FILENO,
              options.log_format == "json" ? LogFormat::kJson : LogFormat::kText,
              options.debug ? LogLevel::kDebug : LogLevel::kInfo) {}

Result<Config> Context::LoadConfig() const {
  Config config = TRY(bulkhead::LoadConfig(
      options_.config.empty() ? std::nullopt : std::optional<std::string>(options_.config)));
  if (!options_.root.empty()) {
    config.state_dir = options_.root;
  }
  if (!options_.data.empty()) {
    config.data_dir = options_.data;
  }
  for (const std::string* folder : {&config.state_dir, &config.data_dir}) {
    if (!folder->starts_with('/')) {
      return MakeError(ErrorCode::kInvalidArgument, "the folder \"{}\" is not an absolute path",
                       *folder);
    }
  }
  return config;
}

std::string EngineLogLine(bool json, std::string_view level, std::string_view message,
                          std::string_view time) {
  return json ? fmt::format("{{\"level\":\"{}\",\"msg\":{},\"time\":\"{}\"}}\n", level,
                            JsonQuote(message), time)
              : fmt::format("time=\"{}\" level={} msg={}\n", time, level, JsonQuote(message));
}

// Best effort: what cannot be logged is on stderr still.
void Context::AppendLog(std::string_view level, std::string_view message) const {
  const auto file = sys::Open(options_.log, O_WRONLY | O_CREAT | O_APPEND, 0644);
  if (file) {
    (void)sys::WriteAll(file->get(),
                        EngineLogLine(options_.log_format == "json", level, message, UtcNow(0)));
  }
}

void Context::Warn(std::string_view message) {
  if (!options_.log.empty()) {
    return AppendLog("warning", OneLine(message));
  }
  logger_.Warning(OneLine(message));
}

void Context::WarnAll(std::string_view document, const std::vector<std::string>& warnings) {
  for (const std::string& warning : warnings) {
    Warn(fmt::format("{}: {}", document, warning));
  }
}

void Context::Complain(std::string_view message) {
  if (!options_.log.empty()) {
    AppendLog("error", OneLine(message));
    (void)sys::WriteAll(STDERR_FILENO, OneLine(message) + "\n");
    return;
  }
  if (options_.log_format == "json") {
    logger_.Error(OneLine(message));
  } else {
    (void)sys::WriteAll(STDERR_FILENO, fmt::format("bulkhead: {}\n", OneLine(message)));
  }
}

int Context::Fail(const Error& error) {
  Complain(error.message());
  return ExitCodeOf(error);
}

int Context::FailEngine(const Error& error) {
  Complain(error.message());
  return 1;
}

void Context::ShowTimeline() {
  if (!options_.debug) {
    return;
  }
  if (options_.log_format == "json") {
    using Ms = std::chrono::duration<double, std::milli>;
    for (const Timeline::Entry& entry : timeline_.entries()) {
      logger_.Debug(entry.phase,
                    {{"ms", fmt::format("{:.1f}", Ms(entry.at - timeline_.start()).count())}});
    }
    return;
  }
  (void)sys::WriteAll(STDERR_FILENO, "bulkhead: timeline of this command\n" + timeline_.ToText());
}

int ExitCodeOf(const Error& error) {
  switch (error.code()) {
    case ErrorCode::kCommandNotFound:
      return kExitNotFound;
    case ErrorCode::kCommandNotRunnable:
      return kExitNotRunnable;
    default:
      return kExitOurs;
  }
}

std::string OneLine(std::string_view text) {
  std::string line(text);
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      c = ' ';
    }
  }
  while (line.ends_with(' ')) {
    line.pop_back();
  }
  return line;
}

Status PrintOut(std::string_view text) {
  const Status written = sys::WriteAll(STDOUT_FILENO, text);
  if (!written) {
    return MakeErrno(written.error().errnum(), "cannot write to standard output");
  }
  return {};
}

}  // namespace bulkhead::cli
