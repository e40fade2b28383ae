// What every command has: the global options, the configuration they lead to, and the one place
// where an error becomes a line on stderr and an exit code.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "base/log.h"
#include "base/result.h"
#include "shim/config.h"

namespace CLI {
class App;
}

namespace bulkhead::cli {

// Exit codes of our own, as docker has them.
constexpr int kExitOurs = 125;         // Bulkhead failed, not the command
constexpr int kExitNotRunnable = 126;  // the command cannot be executed
constexpr int kExitNotFound = 127;     // there is no such command
constexpr int kExitTimeout = 124;      // --timeout ended it, as timeout(1) has it

struct GlobalOptions {
  std::string config;
  std::string log_format = "text";
  std::string root;  // overrides state_dir
  std::string data;  // overrides data_dir
  std::string log;   // a file to which messages go as well, in log_format
  bool debug = false;
  bool systemd_cgroup = false;
  std::string rootless;

  // Which of fds 0, 1, 2 were open when the program started.
  std::array<bool, 3> was_open{true, true, true};
};

// Adds the options to a command, so that they may stand before or after its name.
void AddGlobalOptions(CLI::App& app, GlobalOptions& options);

class Context {
 public:
  explicit Context(const GlobalOptions& options);

  const GlobalOptions& options() const { return options_; }
  Logger& logger() { return logger_; }
  Result<Config> LoadConfig() const;

  // One line on stderr (or one JSON object).
  void Warn(std::string_view message);
  // Of a document.
  void WarnAll(std::string_view document, const std::vector<std::string>& warnings);
  void Complain(std::string_view message);
  // The same for an error; returns the exit code that suits it.
  int Fail(const Error& error);
  // The exit code of a command that engines call, as runc has it.
  int FailEngine(const Error& error);
  // Marks the end of a phase of the start; shown by --debug.
  void Mark(std::string phase) { timeline_.Mark(std::move(phase)); }
  void ShowTimeline();

 private:
  void AppendLog(std::string_view level, std::string_view message) const;

  const GlobalOptions options_;
  Logger logger_;
  Timeline timeline_;
};

// A line of a log as engines read it: JSON, or text as logrus writes it.
std::string EngineLogLine(bool json, std::string_view level, std::string_view message,
                          std::string_view time);
int ExitCodeOf(const Error& error);
// Line ends and other control characters become spaces.
std::string OneLine(std::string_view text);
// Writes to stdout; an error when it cannot be written.
Status PrintOut(std::string_view text);

}  // namespace bulkhead::cli
