// bulkhead spec and features; and checkpoint and restore, which are not there.
#include <CLI/CLI.hpp>
#include <memory>

#include "base/sys.h"
#include "cli/commands.h"
#include "cli/engine/action.h"
#include "cli/engine/default_spec.h"
#include "oci/features.h"

namespace bulkhead::cli {

// Without the global options: --rootless has another meaning after its name, as with runc.
void AddSpec(CLI::App& app, GlobalOptions& /*globals*/, Action& action) {
  CLI::App* spec = app.add_subcommand("spec", "Write a config.json to begin with.");
  auto bundle = std::make_shared<std::string>(".");
  auto rootless = std::make_shared<bool>(false);
  spec->add_option("-b,--bundle", *bundle, "The folder (default: .)")->type_name("DIR");
  spec->add_flag("--rootless", *rootless, "With a user namespace of this user");
  spec->callback([&action, bundle, rootless] {
    action = [bundle, rootless](Context& context) {
      const std::string path = *bundle + "/config.json";
      const Status written = sys::Exists(path) ? MakeError(ErrorCode::kAlreadyExists,
                                                           "File {} exists. Remove it first", path)
                                               : sys::WriteFile(path, DefaultSpec(*rootless), 0666);
      return written ? 0 : context.FailEngine(written.error());
    };
  });
}

void AddFeatures(CLI::App& app, GlobalOptions& globals, Action& action) {
  CLI::App* features = app.add_subcommand("features", "Print what this runtime can do, as JSON.");
  AddGlobalOptions(*features, globals);
  features->callback([&action] {
    action = [](Context& context) {
      const Status printed = PrintOut(oci::FeaturesJson(BULKHEAD_VERSION, true));
      return printed ? 0 : context.FailEngine(printed.error());
    };
  });
}

void AddCheckpointRestore(CLI::App& app, GlobalOptions& globals, Action& action) {
  for (const char* name : {"checkpoint", "restore"}) {
    CLI::App* command = app.add_subcommand(name, "Not implemented.");
    command->allow_extras();
    AddGlobalOptions(*command, globals);
    command->callback([&action, name] {
      action = EngineAction([name](const Engine&) -> Status {
        return MakeError(ErrorCode::kUnimplemented,
                         "{}: checkpoints of a container in a virtual machine are not implemented",
                         name);
      });
    });
  }
}

}  // namespace bulkhead::cli
