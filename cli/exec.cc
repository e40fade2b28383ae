// bulkhead exec: one more process in a running container.
#include "cli/engine/exec.h"

#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "base/scope_guard.h"
#include "base/sys.h"
#include "cli/attach.h"
#include "cli/commands.h"
#include "cli/pod_folder.h"
#include "cli/run_options.h"
#include "cli/session.h"
#include "oci/image_user.h"

namespace bulkhead::cli {
namespace {

struct ExecOptions {
  bool interactive = false;
  bool terminal = false;
  bool detach = false;
  std::vector<std::string> env;
  std::vector<std::string> env_files;
  std::string workdir;
  std::string user;
  std::vector<std::string> rest;  // NAME and COMMAND...
  EngineExecOptions engine;       // what only containers of engines know
};

// The container's first process with what the options change.
Result<oci::Process> BuildProcess(const ExecOptions& options, const PodInfo& pod) {
  const std::string json = TRY(sys::ReadFile(pod.paths.bundle() + "/config.json"));
  const oci::Spec spec = TRY(oci::ParseSpec(json));
  if (!spec.process) {
    return MakeError(ErrorCode::kInternal, "{}: no process in config.json", pod.paths.name);
  }
  oci::Process process = *spec.process;
  process.args.assign(options.rest.begin() + 1, options.rest.end());
  process.terminal = options.terminal;
  process.console_size = options.terminal ? TerminalSize() : std::nullopt;
  if (options.terminal && !HasEnv(process.env, "TERM")) {
    process.env.emplace_back("TERM=xterm");
  }
  for (const std::string& file : options.env_files) {
    const std::string text = TRY_AS(sys::ReadFile(file), "--env-file");
    for (const std::string& assignment : TRY(ParseEnvFile(text, file))) {
      SetEnv(process.env, assignment);
    }
  }
  if (!options.user.empty()) {
    std::vector<std::string> layers = pod.record.layers;
    layers.push_back(pod.paths.data + "/upper");
    const oci::ResolvedUser user = TRY_AS(oci::ResolveUser(options.user, layers), "--user");
    process.user = user.user;
    SetEnv(process.env, "HOME=" + user.home);
    if (process.capabilities) {
      const bool root = user.user.uid == 0;
      const std::vector<std::string> none;
      process.capabilities->effective = root ? process.capabilities->bounding : none;
      process.capabilities->permitted = process.capabilities->effective;
    }
  }
  for (const std::string& text : options.env) {
    if (const auto assignment = TRY_AS(ParseEnv(text), "--env")) {
      SetEnv(process.env, *assignment);
    }
  }
  if (!options.workdir.empty()) {
    process.cwd = options.workdir;
  }
  return process;
}

Result<int> Attached(Context& context, Session& session, TaskClient& client,
                     const std::string& exec_id, const std::string& process,
                     const ExecOptions& options, const PodPaths& paths) {
  const auto attachment =
      TRY(Attachment::Make(paths.io(), exec_id + "-", options.interactive, options.terminal));
  TRY(client.Exec(exec_id, process, options.terminal, attachment->paths()));
  const ScopeGuard forget([&] {
    session.Ended();
    (void)client.Delete(exec_id);
  });
  TRY(attachment->Begin([&] { (void)client.Kill(exec_id, SIGKILL); }));
  TRY(client.Start(exec_id));
  session.Started(&client, exec_id, options.terminal);
  const int status = TRY(client.Wait(exec_id));
  session.Ended();
  if (!attachment->Drain(std::chrono::seconds(10))) {
    context.Warn("something still holds the process's output 10 s after its end: left");
  }
  if (const std::optional<Error> error = attachment->output_error()) {
    return tl::unexpected(*error);
  }
  return status;
}

Result<int> Exec(Context& context, Session& session, const ExecOptions& options) {
  const Config config = TRY(context.LoadConfig());
  const PodInfo pod = TRY(FindPod(config, options.rest[0]));
  if (pod.state != PodState::kRunning) {
    return MakeError(ErrorCode::kFailedPrecondition, "container \"{}\" is not running",
                     options.rest[0]);
  }
  const oci::Process process = TRY(BuildProcess(options, pod));
  const std::unique_ptr<TaskClient> client =
      TRY(TaskClient::Connect(pod.paths.socket(), pod.paths.name));
  const std::string exec_id = "exec-" + RandomHex(12);
  const std::string json = oci::ProcessToJson(process);
  if (options.detach) {
    TRY(client->Exec(exec_id, json, options.terminal, {}));
    TRY(client->Start(exec_id));
    return 0;
  }
  return Attached(context, session, *client, exec_id, json, options, pod.paths);
}

EngineExecOptions EngineOptionsOf(const ExecOptions& options) {
  EngineExecOptions engine = options.engine;
  engine.terminal = options.terminal;
  engine.detach = options.detach;
  engine.env = options.env;
  engine.user = options.user;
  engine.cwd = options.workdir;
  engine.rest = options.rest;
  return engine;
}

int ExecCommand(Context& context, const ExecOptions& options) {
  if (!options.rest.empty() && IsEngineContainer(context, options.rest[0])) {
    return EngineExec(context, EngineOptionsOf(options));
  }
  if (options.rest.size() < 2) {
    context.Complain("exec needs a NAME and a COMMAND; see bulkhead exec --help");
    return kExitOurs;
  }
  const Status stdio =
      CheckStdio(context.options(), options.interactive, options.terminal, options.detach);
  if (!stdio) {
    return context.Fail(stdio.error());
  }
  BlockSignals();
  Session session(context, std::nullopt);
  const Result<int> result = session.Run([&] { return Exec(context, session, options); });
  return result ? *result : context.Fail(result.error());
}

void AddEngineOptions(CLI::App& exec, EngineExecOptions& options) {
  const std::string group = "Options for containers of engines";
  exec.add_option("-p,--process", options.process, "File with the process, as JSON")
      ->type_name("FILE")
      ->group(group);
  exec.add_option("--pid-file", options.pid_file, "File for the process's pid")
      ->type_name("FILE")
      ->group(group);
  exec.add_option("--console-socket", options.console_socket,
                  "Socket to send the terminal's other end to")
      ->type_name("SOCKET")
      ->group(group);
  exec.add_option("-c,--cap", options.caps, "Add a capability")
      ->allow_extra_args(false)
      ->type_name("CAP")
      ->group(group);
  exec.add_option("-g,--additional-gids", options.additional_gids, "Add a group")
      ->allow_extra_args(false)
      ->type_name("GID")
      ->group(group);
  exec.add_option("--preserve-fds", options.preserve_fds, "Not supported in a VM")
      ->type_name("N")
      ->group(group);
  exec.add_option("--process-label,--apparmor,--cgroup", options.ignored,
                  "Taken for runc's sake; of no meaning in a VM")
      ->type_name("TEXT")
      ->group(group);
  exec.add_flag("--no-new-privs", options.no_new_privileges, "It can gain no privileges")
      ->group(group);
  exec.add_flag("--ignore-paused", options.ignore_paused, "Also in a paused container")
      ->group(group);
}

}  // namespace

void AddExec(CLI::App& app, GlobalOptions& globals, Action& action) {
  CLI::App* exec =
      app.add_subcommand("exec",
                         "Run one more process in a running container.\n"
                         "Usage: bulkhead exec [OPTIONS] NAME COMMAND...\n\n"
                         "It has the environment, folder, user and capabilities of the "
                         "container's own, unless told otherwise.");
  auto options = std::make_shared<ExecOptions>();
  exec->add_flag("-i,--interactive", options->interactive, "Give it our standard input");
  exec->add_flag("-t,--tty", options->terminal, "Give it a terminal");
  exec->add_flag("-d,--detach", options->detach, "Do not wait for it");
  exec->add_option("-e,--env", options->env, "Set a variable")
      ->allow_extra_args(false)
      ->type_name("NAME[=VALUE]");
  exec->add_option("--env-file", options->env_files, "Read variables from a file")
      ->allow_extra_args(false)
      ->type_name("FILE");
  exec->add_option("-w,--workdir,--cwd", options->workdir, "Working folder")->type_name("DIR");
  exec->add_option("-u,--user", options->user,
                   "Run as this user (numbers; or names of the "
                   "container's own additions)")
      ->type_name("USER[:GROUP]");
  AddEngineOptions(*exec, options->engine);
  AddGlobalOptions(*exec, globals);
  exec->footer("Exit code: the command's own, as with bulkhead run.");
  exec->prefix_command();
  exec->callback([&action, exec, options] {
    options->rest = exec->remaining();
    action = [options](Context& context) { return ExecCommand(context, *options); };
  });
}

}  // namespace bulkhead::cli
