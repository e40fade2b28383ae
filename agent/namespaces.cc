#include "agent/namespaces.h"

#include <sched.h>

#include <array>
#include <string_view>
#include <utility>

namespace bulkhead::agent {
namespace {

using Row = std::pair<std::string_view, int>;

constexpr std::array kTypes{
    Row{"pid", CLONE_NEWPID},     Row{"ipc", CLONE_NEWIPC},   Row{"uts", CLONE_NEWUTS},
    Row{"mount", CLONE_NEWNS},    Row{"time", CLONE_NEWTIME}, Row{"cgroup", CLONE_NEWCGROUP},
    Row{"network", CLONE_NEWNET}, Row{"user", CLONE_NEWUSER},
};

Result<int> ParseType(const std::string& name) {
  for (const auto& [known, flag] : kTypes) {
    if (known == name) {
      return flag;
    }
  }
  return MakeError(ErrorCode::kInvalidArgument, "linux.namespaces: unknown type \"{}\"", name);
}

}  // namespace

Result<NamespacePlan> PlanNamespaces(const std::vector<oci::Namespace>& namespaces) {
  NamespacePlan plan;
  for (const oci::Namespace& entry : namespaces) {
    const int type = TRY(ParseType(entry.type));
    if (type == CLONE_NEWUSER) {
      plan.user = entry.path;
    } else if (!entry.path.empty()) {
      if (type == CLONE_NEWNS) {
        return MakeError(ErrorCode::kUnimplemented,
                         "linux.namespaces: joining a mount namespace is not supported");
      }
      plan.join.push_back({type, entry.path});
    } else if (type == CLONE_NEWCGROUP) {
      plan.new_cgroup = true;
    } else if (type != CLONE_NEWNET) {
      plan.create |= static_cast<uint64_t>(type);
    }
  }
  if ((plan.create & CLONE_NEWNS) == 0) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "linux.namespaces: a container needs a mount namespace");
  }
  return plan;
}

}  // namespace bulkhead::agent
