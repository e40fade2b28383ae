// What a hook is told and what it says.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>

#include "base/unique_fd.h"

namespace bulkhead::oci {

// The state of a container, as the runtime specification's "State" has it.
struct HookState {
  std::string version;
  std::string id;
  std::string status;
  pid_t pid = 0;
  std::string bundle;
  std::map<std::string, std::string> annotations;
};
std::string StateToJson(const HookState& state);

// The beginning of a file that a hook wrote to, without the newlines at its end.
std::string HookWords(const UniqueFd& file);

}  // namespace bulkhead::oci
