// bulkhead create, start, run (of a bundle), state, delete, pause, resume: runc's, for engines.
#include <CLI/CLI.hpp>
#include <memory>

#include "base/sys.h"
#include "cli/commands.h"
#include "cli/engine/arguments.h"
#include "cli/engine/container.h"
#include "cli/engine/list.h"

namespace bulkhead::cli {
namespace {

struct CreateOptions {
  CreateRequest request;
  uint32_t preserve_fds = 0;
  bool detach = false;
  bool keep = false;
  bool ignored = false;
};

Action EngineAction(std::function<Status(const Engine&)> work) {
  return [work = std::move(work)](Context& context) {
    const auto engine = Engine::Open(context);
    const Status done = engine ? work(*engine) : tl::unexpected(engine.error());
    return done ? 0 : context.FailEngine(done.error());
  };
}

void AddCreateOptions(CLI::App& command, CreateOptions& options) {
  command.add_option("-b,--bundle", options.request.bundle, "Folder of config.json (default: .)")
      ->type_name("DIR");
  command
      .add_option("--console-socket", options.request.console_socket,
                  "Socket to send the terminal's other end to")
      ->type_name("SOCKET");
  command.add_option("--pid-file", options.request.pid_file, "File for the process's pid")
      ->type_name("FILE");
  command.add_option("--preserve-fds", options.preserve_fds, "Not supported in a VM")
      ->type_name("N");
  command.add_flag("--no-pivot,--no-new-keyring,--no-subreaper", options.ignored,
                   "Taken for runc's sake; of no meaning in a VM");
  command.add_option("ID", options.request.id, "The container")->required()->type_name("");
}

Result<HostProcess> Create(const Engine& engine, const CreateOptions& options) {
  if (options.preserve_fds != 0) {
    return MakeError(ErrorCode::kUnimplemented,
                     "--preserve-fds: open files of the host cannot be given to a process in a "
                     "virtual machine");
  }
  return CreateContainer(engine, options.request);
}

// `run`: create and start, and in the foreground: wait and delete.
Result<int> Run(const Engine& engine, const CreateOptions& options) {
  const std::string& id = options.request.id;
  HostProcess process = TRY(Create(engine, options));
  const Status started = StartContainer(engine, id);
  if (!started) {
    (void)DeleteContainer(engine, id, true);
    return tl::unexpected(started.error());
  }
  if (options.detach) {
    process.LetGo();
    return 0;
  }
  const auto code = process.Wait();
  if (!options.keep) {
    TRY(DeleteContainer(engine, id, true));
  }
  return code;
}

}  // namespace

void AddCreate(CLI::App& app, GlobalOptions& globals, Action& action) {
  CLI::App* create = app.add_subcommand("create", "Create a container of an OCI bundle.");
  auto options = std::make_shared<CreateOptions>();
  AddCreateOptions(*create, *options);
  AddGlobalOptions(*create, globals);
  create->callback([&action, options] {
    action = EngineAction([options](const Engine& engine) -> Status {
      HostProcess process = TRY(Create(engine, *options));
      process.LetGo();
      return {};
    });
  });
}

void AddBundleRun(CLI::App& app, GlobalOptions& globals, Action& action) {
  CLI::App* run = app.add_subcommand(kBundleRun, "Create and start a container of an OCI bundle.");
  run->group("");  // `run` leads to it
  auto options = std::make_shared<CreateOptions>();
  AddCreateOptions(*run, *options);
  run->add_flag("-d,--detach", options->detach, "Do not wait for its end");
  run->add_flag("--keep", options->keep, "Do not delete it at its end");
  AddGlobalOptions(*run, globals);
  run->callback([&action, options] {
    action = [options](Context& context) {
      const auto engine = Engine::Open(context);
      const auto code = engine ? Run(*engine, *options) : tl::unexpected(engine.error());
      return code ? *code : context.FailEngine(code.error());
    };
  });
}

void AddStart(CLI::App& app, GlobalOptions& globals, Action& action) {
  CLI::App* start = app.add_subcommand("start", "Start a created container.");
  auto id = std::make_shared<std::string>();
  start->add_option("ID", *id, "The container")->required()->type_name("");
  AddGlobalOptions(*start, globals);
  start->callback([&action, id] {
    action = EngineAction([id](const Engine& engine) { return StartContainer(engine, *id); });
  });
}

void AddState(CLI::App& app, GlobalOptions& globals, Action& action) {
  CLI::App* state = app.add_subcommand("state", "Print the state of a container, as JSON.");
  auto id = std::make_shared<std::string>();
  state->add_option("ID", *id, "The container")->required()->type_name("");
  AddGlobalOptions(*state, globals);
  state->callback([&action, id] {
    action = EngineAction([id](const Engine& engine) -> Status {
      const ContainerRecord record = TRY(engine.root().Load(*id));
      return PrintOut(FullStateJson(record, TRY(StateOf(engine, record))) + "\n");
    });
  });
}

void AddDelete(CLI::App& app, GlobalOptions& globals, Action& action) {
  CLI::App* remove = app.add_subcommand("delete", "Delete a container that has ended.");
  auto id = std::make_shared<std::string>();
  auto force = std::make_shared<bool>(false);
  remove->add_flag("-f,--force", *force, "Kill it first, if it runs; none there is no error");
  remove->add_option("ID", *id, "The container")->required()->type_name("");
  AddGlobalOptions(*remove, globals);
  remove->callback([&action, id, force] {
    action = EngineAction(
        [id, force](const Engine& engine) { return DeleteContainer(engine, *id, *force); });
  });
}

void AddPauseResume(CLI::App& app, GlobalOptions& globals, Action& action) {
  const auto add = [&](const char* name, const char* text, Status (TaskClient::*call)()) {
    CLI::App* command = app.add_subcommand(name, text);
    auto id = std::make_shared<std::string>();
    command->add_option("ID", *id, "The container")->required()->type_name("");
    AddGlobalOptions(*command, globals);
    command->callback([&action, id, call] {
      action = EngineAction([id, call](const Engine& engine) -> Status {
        const ContainerRecord record = TRY(engine.root().Load(*id));
        if (TRY(StateOf(engine, record)).status == "stopped") {
          return MakeError(ErrorCode::kFailedPrecondition, "container not running: \"{}\"", *id);
        }
        return ((*TRY(engine.Daemon(record))).*call)();
      });
    });
  };
  add("pause", "Stop every process of a container for a while.", &TaskClient::Pause);
  add("resume", "Let the processes of a paused container go on.", &TaskClient::Resume);
}

}  // namespace bulkhead::cli
