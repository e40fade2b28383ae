#include "cli/run_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <limits>

#include "base/sys.h"
#include "cli/option_values.h"
#include "shim/config.h"

namespace bulkhead::cli {
namespace {

Status ParseEnvironment(const RawRunOptions& raw, RunOptions& options) {
  for (const std::string& file : raw.env_files) {
    const std::string text = TRY_AS(sys::ReadFile(file), "--env-file");
    for (const std::string& assignment : TRY(ParseEnvFile(text, file))) {
      SetEnv(options.env, assignment);
    }
  }
  for (const std::string& text : raw.env) {
    const auto assignment = TRY_AS(ParseEnv(text), "--env");
    if (assignment) {
      SetEnv(options.env, *assignment);
    }
  }
  return {};
}

Status ParseMounts(const RawRunOptions& raw, RunOptions& options) {
  for (const std::string& text : raw.volumes) {
    options.volumes.push_back(TRY_AS(ParseVolume(text), "--volume"));
  }
  for (const std::string& text : raw.tmpfs) {
    options.tmpfs.push_back(TRY_AS(ParseTmpfs(text), "--tmpfs"));
  }
  if (!raw.shm_size.empty()) {
    options.shm_size = TRY_AS(ParseSize(raw.shm_size), "--shm-size");
  }
  return {};
}

Result<std::pair<std::string, std::string>> ParsePair(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == 0 || equals == std::string::npos) {
    return MakeError(ErrorCode::kInvalidArgument, "\"{}\" is not of the form NAME=VALUE", text);
  }
  return std::pair(text.substr(0, equals), text.substr(equals + 1));
}

Status ParseSecurityOption(const std::string& text, RunOptions& options) {
  if (text == "no-new-privileges" || text == "no-new-privileges=true" ||
      text == "no-new-privileges:true") {
    options.no_new_privileges = true;
  } else if (text == "no-new-privileges=false" || text == "no-new-privileges:false") {
    options.no_new_privileges = false;
  } else if (text == "seccomp=unconfined" || text == "seccomp:unconfined") {
    options.seccomp_unconfined = true;
  } else if (text.starts_with("seccomp=") && text.size() > 8) {
    options.seccomp_profile = text.substr(8);
  } else {
    return MakeError(ErrorCode::kInvalidArgument,
                     "--security-opt: \"{}\" is not known; use no-new-privileges, "
                     "seccomp=unconfined or seccomp=FILE",
                     text);
  }
  return {};
}

Status ParseSecurity(const RawRunOptions& raw, RunOptions& options) {
  for (const std::string& text : raw.cap_add) {
    options.cap_add.push_back(TRY_AS(ParseCapability(text), "--cap-add"));
  }
  for (const std::string& text : raw.cap_drop) {
    options.cap_drop.push_back(TRY_AS(ParseCapability(text), "--cap-drop"));
  }
  for (const std::string& text : raw.security_opt) {
    TRY(ParseSecurityOption(text, options));
  }
  for (const std::string& text : raw.ulimits) {
    options.rlimits.push_back(TRY_AS(ParseUlimit(text), "--ulimit"));
  }
  for (const std::string& text : raw.annotations) {
    options.annotations.insert(TRY_AS(ParsePair(text), "--annotation"));
  }
  for (const std::string& text : raw.sysctls) {
    options.sysctls.insert(TRY_AS(ParsePair(text), "--sysctl"));
  }
  return {};
}

// What is wrong with a value, the daemon says as it does of the annotation.
Status ParseUpper(const RawRunOptions& raw, RunOptions& options) {
  const std::string upper = "io.bulkhead.rootfs.upper";
  if (!raw.upper.empty()) {
    const size_t colon = raw.upper.find(':');
    options.annotations[upper] = raw.upper.substr(0, colon);
    if (colon != std::string::npos) {
      options.annotations[upper + ".size"] = raw.upper.substr(colon + 1);
    }
  }
  if (!raw.upper_folders.empty()) {
    if (raw.upper.empty() || raw.upper.starts_with("shared")) {
      return MakeError(ErrorCode::kInvalidArgument,
                       "--upper-folder: only with --upper block or --upper memory");
    }
    options.annotations[upper + ".folders"] = fmt::format("{}", fmt::join(raw.upper_folders, ":"));
  }
  return {};
}

Status ParseLimits(const RawRunOptions& raw, RunOptions& options) {
  if (!raw.cpus.empty()) {
    char* end = nullptr;
    const double cpus = std::strtod(raw.cpus.c_str(), &end);
    if (*end != '\0' || !(cpus >= 0.01 && cpus <= 1024)) {
      return MakeError(ErrorCode::kInvalidArgument,
                       "--cpus: \"{}\" is not a number from 0.01 to 1024", raw.cpus);
    }
    options.cpus = cpus;
  }
  if (!raw.memory.empty()) {
    options.memory = TRY_AS(ParseSize(raw.memory), "--memory");
    if (*options.memory < (6U << 20U)) {
      return MakeError(ErrorCode::kInvalidArgument, "--memory: {} is too little: 6m at least",
                       raw.memory);
    }
    if (*options.memory > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return MakeError(ErrorCode::kInvalidArgument, "--memory: {} is too much", raw.memory);
    }
  }
  if (!raw.pids_limit.empty()) {
    options.pids_limit = TRY_AS(ParseInteger(raw.pids_limit), "--pids-limit");
  }
  if (!raw.timeout.empty()) {
    options.timeout = TRY_AS(ParseDuration(raw.timeout), "--timeout");
  }
  if (!raw.stop_signal.empty()) {
    TRY_AS(ParseSignal(raw.stop_signal), "--stop-signal");
    options.stop_signal = raw.stop_signal;
  }
  return {};
}

Status CheckTogether(const RunOptions& options) {
  if (!options.name.empty()) {
    TRY_AS(CheckName(options.name), "--name");
  }
  if (options.detach && options.timeout) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "--timeout and --detach exclude each other: with --detach nobody waits");
  }
  if (options.hostname.size() > 64) {
    return MakeError(ErrorCode::kInvalidArgument, "--hostname: longer than 64 characters");
  }
  if (!options.workdir.empty() && !options.workdir.starts_with('/')) {
    return MakeError(ErrorCode::kInvalidArgument, "--workdir: \"{}\" is not an absolute path",
                     options.workdir);
  }
  return {};
}

}  // namespace

Result<RunOptions> ParseRunOptions(const RawRunOptions& raw) {
  RunOptions options;
  if (raw.rest.empty() || raw.rest[0].empty()) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "run needs an IMAGE or a ROOTFS folder; see bulkhead run --help");
  }
  if (raw.rest[0].size() > 1 && raw.rest[0][0] == '-') {
    return MakeError(ErrorCode::kInvalidArgument, "unknown option {}; see bulkhead run --help",
                     raw.rest[0]);
  }
  options.image = raw.rest[0];
  options.command.assign(raw.rest.begin() + 1, raw.rest.end());
  options.interactive = raw.interactive;
  options.terminal = raw.terminal;
  options.detach = raw.detach;
  options.auto_remove = raw.auto_remove;
  options.read_only = raw.read_only;
  options.init = raw.init;
  options.entrypoint = raw.entrypoint;
  options.workdir = raw.workdir;
  options.user = raw.user;
  options.group_add = raw.group_add;
  options.name = raw.name;
  options.hostname = raw.hostname;
  options.domainname = raw.domainname;
  options.accel = raw.accel;
  TRY(ParseEnvironment(raw, options));
  TRY(ParseMounts(raw, options));
  TRY(ParseSecurity(raw, options));
  TRY(ParseUpper(raw, options));
  TRY(ParseLimits(raw, options));
  TRY(ParseNetworkOptions(raw, options));
  TRY(CheckTogether(options));
  return options;
}

}  // namespace bulkhead::cli
