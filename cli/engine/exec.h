// `exec` as engines call it: the options that runc has.
#pragma once

#include <string>
#include <vector>

#include "cli/globals.h"
#include "oci/spec.h"

namespace bulkhead::cli {

struct EngineExecOptions {
  std::string process;  // a file
  std::string pid_file;
  std::string console_socket;
  std::string cwd;
  std::string user;
  std::vector<std::string> env;
  std::vector<std::string> caps;
  std::vector<uint32_t> additional_gids;
  uint32_t preserve_fds = 0;
  std::string ignored;
  bool terminal = false;
  bool detach = false;
  bool no_new_privileges = false;
  bool ignore_paused = false;
  std::vector<std::string> rest;  // ID and COMMAND...
};

// The process of `options` in a container whose own first process is `base`.
Result<oci::Process> BuildEngineProcess(const EngineExecOptions& options, const oci::Process& base);
// "ID", "UID:GID".
Status ParseNumericUser(const std::string& text, oci::User& user);

int EngineExec(Context& context, const EngineExecOptions& options);

// The container is one of an engine, in this root.
bool IsEngineContainer(Context& context, const std::string& id);

}  // namespace bulkhead::cli
