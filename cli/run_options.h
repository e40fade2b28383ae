// The options of `bulkhead run` as values, and the parsers of their small languages.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/spec.h"
#include "oci/words.h"
#include "shim/network/published_ports.h"

namespace CLI {
class App;
}

namespace bulkhead::cli {

struct Volume {
  std::string source;  // absolute, on the host
  std::string destination;
  bool read_only = false;
};

struct Tmpfs {
  std::string destination;
  std::vector<std::string> options;
};

// As CLI11 fills it: text, not yet understood.
struct RawRunOptions {
  std::vector<std::string> env, env_files, group_add, volumes, tmpfs, cap_add, cap_drop,
      security_opt, ulimits, annotations, sysctls, upper_folders, publish, dns, dns_search,
      add_hosts;
  std::optional<std::string> entrypoint;
  std::string workdir, user, name, hostname, domainname, memory, cpus, shm_size, network, timeout,
      stop_signal, accel, pids_limit, upper;
  bool interactive = false, terminal = false, detach = false, read_only = false,
       auto_remove = false, init = false;
  std::vector<std::string> rest;  // IMAGE and COMMAND...
};

struct RunOptions {
  std::string image;
  std::vector<std::string> command;
  bool interactive = false;
  bool terminal = false;
  bool detach = false;
  bool auto_remove = false;
  bool read_only = false;
  bool init = false;
  std::vector<std::string> env;  // files first, then options: "NAME=value"
  std::optional<std::string> entrypoint;
  std::string workdir;
  std::string user;
  std::vector<std::string> group_add;
  std::vector<Volume> volumes;
  std::vector<Tmpfs> tmpfs;
  std::string name;
  std::string hostname;
  std::string domainname;
  std::optional<double> cpus;
  std::optional<uint64_t> memory;
  std::optional<int64_t> pids_limit;
  uint64_t shm_size = 64U << 20U;
  std::vector<std::string> cap_add;  // "CAP_..." or "ALL"
  std::vector<std::string> cap_drop;
  bool no_new_privileges = false;
  bool seccomp_unconfined = false;
  std::string seccomp_profile;  // a file
  std::vector<oci::Rlimit> rlimits;
  std::map<std::string, std::string> annotations;
  std::map<std::string, std::string> sysctls;
  std::optional<std::chrono::milliseconds> timeout;
  std::string stop_signal;
  std::string accel;    // empty: what the configuration says
  std::string network;  // "none", "user"; empty: "user" if there can be one
  std::vector<shim::PublishedPorts> publish;
  std::vector<std::string> dns;                                // addresses
  std::vector<std::string> dns_search;                         // "." alone: none
  std::vector<std::pair<std::string, std::string>> add_hosts;  // name and address
};

void AddRunOptions(CLI::App& app, RawRunOptions& raw);
// Errors name the option. Reads --env-file and this process's environment (for `-e NAME`), and
// makes the sources of volumes absolute.
Result<RunOptions> ParseRunOptions(const RawRunOptions& raw);
// Its part for the network.
Status ParseNetworkOptions(const RawRunOptions& raw, RunOptions& options);

// "30s", "5m", "1h30m", "500ms", or plain seconds.
Result<std::chrono::milliseconds> ParseDuration(std::string_view text);
// "TERM", "SIGTERM", "15", "RTMIN+3".
Result<int> ParseSignal(std::string_view text);
// "SRC:DST[:ro|rw]".
Result<Volume> ParseVolume(const std::string& text);
Result<Tmpfs> ParseTmpfs(const std::string& text);
// "NAME=SOFT[:HARD]"; -1 or "unlimited" is no limit.
Result<oci::Rlimit> ParseUlimit(const std::string& text);
// "NET_ADMIN", "cap_net_admin", "ALL": the kernel's name. Unknown names are refused.
Result<std::string> ParseCapability(std::string_view text);
// "NAME=value" or "NAME" (taken from our own environment; nullopt when it is not set).
Result<std::optional<std::string>> ParseEnv(const std::string& text);
Result<std::vector<std::string>> ParseEnvFile(std::string_view text, const std::string& name);
// A container's name: [a-zA-Z0-9][a-zA-Z0-9_.-]*, at most 64 characters (a socket's path must
// hold it).
Status CheckName(std::string_view name);

// Sets "NAME=value" in an environment: replaces what has that name.
void SetEnv(std::vector<std::string>& env, std::string_view assignment);
bool HasEnv(const std::vector<std::string>& env, std::string_view name);

using oci::AllCapabilities;

}  // namespace bulkhead::cli
