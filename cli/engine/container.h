// What the commands of an OCI runtime do with a container: clients of its pod's daemon.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "cli/daemon.h"
#include "cli/engine/record.h"
#include "cli/engine/stand_in_client.h"
#include "cli/globals.h"
#include "oci/spec.h"
#include "shim/config.h"

namespace bulkhead::cli {

// What every command of an engine starts from.
class Engine {
 public:
  static Result<Engine> Open(Context& context);

  Context& context() const { return *context_; }
  const Config& config() const { return config_; }
  const ContainerRoot& root() const { return root_; }
  // Held while it is decided who is in which pod; ends with the fd.
  Result<UniqueFd> Lock() const;
  Result<std::unique_ptr<TaskClient>> Daemon(const ContainerRecord& record) const;
  Result<oci::Spec> SpecOf(const std::string& id) const;

 private:
  Engine(Context& context, Config config)
      : context_(&context), config_(std::move(config)), root_(config_.state_dir) {}

  Context* context_;
  Config config_;
  ContainerRoot root_;
};

struct LiveState {
  std::string status;  // creating, created, running, paused, stopped
  pid_t pid = 0;       // 0 when stopped
};
// A container whose daemon is gone is stopped.
Result<LiveState> StateOf(const Engine& engine, const ContainerRecord& record);

struct CreateRequest {
  std::string id;
  std::string bundle;
  std::string pid_file;
  std::string console_socket;
};
// The stand-in is the caller's child still. All is undone when it fails.
Result<HostProcess> CreateContainer(const Engine& engine, const CreateRequest& request);
Status StartContainer(const Engine& engine, const std::string& id);
Status KillContainer(const Engine& engine, const std::string& id, int signal, bool all);
Status DeleteContainer(const Engine& engine, const std::string& id, bool force);

struct ExecRequest {
  std::string id;
  oci::Process process;
  std::string pid_file;
  std::string console_socket;
  bool ignore_paused = false;
};
Result<HostProcess> ExecInContainer(const Engine& engine, const ExecRequest& request);

}  // namespace bulkhead::cli
