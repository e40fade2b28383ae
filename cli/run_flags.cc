// The command line of `bulkhead run`: names and help. What the values mean: run_options.cc.
#include <CLI/CLI.hpp>

#include "cli/run_options.h"

namespace bulkhead::cli {
namespace {

using Strings = std::vector<std::string>;

// One value per use; may be given many times.
void AddMany(CLI::App& app, const std::string& name, Strings& values, const std::string& type,
             const std::string& help, const std::string& group) {
  app.add_option(name, values, help)->allow_extra_args(false)->type_name(type)->group(group);
}

void AddOne(CLI::App& app, const std::string& name, std::string& value, const std::string& type,
            const std::string& help, const std::string& group) {
  app.add_option(name, value, help)->type_name(type)->group(group)->take_last();
}

void AddProcessOptions(CLI::App& app, RawRunOptions& raw) {
  const std::string group = "The process";
  app.add_flag("-i,--interactive", raw.interactive, "Give it our standard input")->group(group);
  app.add_flag("-t,--tty", raw.terminal, "Give it a terminal")->group(group);
  app.add_flag("-d,--detach", raw.detach, "Run in the background; prints the name")->group(group);
  AddMany(app, "-e,--env", raw.env, "NAME[=VALUE]",
          "Set a variable; without =VALUE it is taken from this environment", group);
  AddMany(app, "--env-file", raw.env_files, "FILE", "Read variables from a file, one a line",
          group);
  AddOne(app, "-w,--workdir", raw.workdir, "DIR", "Working folder (default: the image's)", group);
  AddOne(app, "-u,--user", raw.user, "USER[:GROUP]",
         "Run as this user, by name or number (default: the image's)", group);
  AddMany(app, "--group-add", raw.group_add, "GROUP", "One more group for the user", group);
  app.add_option("--entrypoint", raw.entrypoint,
                 "Run this instead of the image's entrypoint; empty: none")
      ->type_name("COMMAND")
      ->group(group);
  app.add_flag("--init", raw.init,
               "Run a small init as process 1, which reaps and forwards signals")
      ->group(group);
  AddOne(app, "--stop-signal", raw.stop_signal, "SIGNAL",
         "What --timeout sends first (default: the image's, else TERM)", group);
  AddOne(app, "--timeout", raw.timeout, "DURATION",
         "End it after this time (30s, 5m, 1h30m): the stop signal, 10 s later KILL; exit code 124",
         group);
}

void AddContainerOptions(CLI::App& app, RawRunOptions& raw) {
  const std::string group = "The container";
  AddOne(app, "--name", raw.name, "NAME", "Its name (default: a random one)", group);
  app.add_flag("--rm", raw.auto_remove, "Remove its log and record when it has ended")
      ->group(group);
  AddOne(app, "-h,--hostname", raw.hostname, "NAME", "Its host name (default: a random id)", group);
  AddOne(app, "--domainname", raw.domainname, "NAME", "Its NIS domain name", group);
  AddMany(app, "--annotation", raw.annotations, "NAME=VALUE", "Add an OCI annotation", group);
  AddMany(app, "--sysctl", raw.sysctls, "NAME=VALUE", "Set a kernel parameter of its namespaces",
          group);
  app.add_option("--accel", raw.accel, "How the VM runs: kvm or tcg (default: what works)")
      ->type_name("KIND")
      ->check(CLI::IsMember({"kvm", "tcg"}))
      ->group(group);
}

void AddNetworkOptions(CLI::App& app, RawRunOptions& raw) {
  const std::string group = "Network";
  AddOne(app, "--network", raw.network, "user|none",
         "user: through connections of the host's own, by passt or QEMU (default); none: only lo",
         group);
  AddMany(app, "-p,--publish", raw.publish, "[[IP:]HOSTPORT:]PORT[/udp]",
          "Lead a port of the host, or a range (8000-8009:80-89), to the container; without\n"
          "HOSTPORT a free one is chosen: see bulkhead list --format json",
          group);
  AddMany(app, "--dns", raw.dns, "IP", "A name server to ask (default: the host's)", group);
  AddMany(app, "--dns-search", raw.dns_search, "DOMAIN",
          "A domain to search names in (default: the host's); \".\": none", group);
  AddMany(app, "--add-host", raw.add_hosts, "NAME:IP", "A line for /etc/hosts", group);
}

void AddFileOptions(CLI::App& app, RawRunOptions& raw) {
  const std::string group = "Files";
  AddMany(app, "-v,--volume", raw.volumes, "SRC:DST[:ro]",
          "Share a folder or file of the host with the container", group);
  AddMany(app, "--tmpfs", raw.tmpfs, "DST[:OPTIONS]",
          "Mount an empty file system in memory (size=64m,mode=1777,...)", group);
  app.add_flag("--read-only", raw.read_only, "Make the root file system read-only")->group(group);
  AddOne(app, "--upper", raw.upper, "shared|block|memory[:SIZE]",
         "Where what it writes goes: the host's data folder, a disk of its own (of 10g), or the\n"
         "guest's memory (half of it); of the latter two the host sees nothing",
         group);
  AddMany(app, "--upper-folder", raw.upper_folders, "DIR",
          "An empty folder of that disk or memory itself, e.g. /var/lib/docker, where an overlay\n"
          "may write",
          group);
  AddOne(app, "--shm-size", raw.shm_size, "SIZE", "Size of /dev/shm (default: 64m)", group);
}

void AddLimitOptions(CLI::App& app, RawRunOptions& raw) {
  const std::string group = "Limits";
  AddOne(app, "--cpus", raw.cpus, "N", "CPU time, in CPUs; the VM gets as many, rounded up", group);
  AddOne(app, "-m,--memory", raw.memory, "SIZE",
         "Memory (512m, 2g); the VM gets it and what the guest itself needs", group);
  AddOne(app, "--pids-limit", raw.pids_limit, "N", "Number of processes; -1: no limit", group);
  AddMany(app, "--ulimit", raw.ulimits, "NAME=SOFT[:HARD]", "A resource limit, e.g. nofile=1024",
          group);
}

void AddSecurityOptions(CLI::App& app, RawRunOptions& raw) {
  const std::string group = "Security inside the VM";
  AddMany(app, "--cap-add", raw.cap_add, "CAP", "Add a capability; ALL: every one", group);
  AddMany(app, "--cap-drop", raw.cap_drop, "CAP", "Drop a capability; ALL: every one", group);
  AddMany(app, "--security-opt", raw.security_opt, "OPTION",
          "no-new-privileges, seccomp=unconfined or seccomp=FILE (an OCI profile)", group);
}

}  // namespace

void AddRunOptions(CLI::App& app, RawRunOptions& raw) {
  AddProcessOptions(app, raw);
  AddContainerOptions(app, raw);
  AddNetworkOptions(app, raw);
  AddFileOptions(app, raw);
  AddLimitOptions(app, raw);
  AddSecurityOptions(app, raw);
}

}  // namespace bulkhead::cli
