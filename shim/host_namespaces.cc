#include "shim/host_namespaces.h"

#include <algorithm>

#include "base/sys.h"

namespace bulkhead::shim {
namespace {

tl::unexpected<Error> Refused(const std::string& type, std::string_view what) {
  return MakeError(ErrorCode::kUnimplemented, "linux.namespaces: {}: {}", type, what);
}

bool HasType(const oci::Spec& spec, const std::string& type) {
  const auto& all = spec.linux_.namespaces;
  return std::any_of(all.begin(), all.end(),
                     [&](const oci::Namespace& entry) { return entry.type == type; });
}

}  // namespace

Status RefuseHostProcesses(const oci::Spec& spec) {
  return HasType(spec, "pid")
             ? Status()
             : Refused("pid", "the host's own processes cannot be shown in a virtual machine");
}

Status RefuseHostNetwork(const oci::Spec& spec, const NamespaceOf& namespace_of) {
  if (!HasType(spec, "network")) {
    return Refused("network", "the host's own network cannot be given to a virtual machine");
  }
  for (const oci::Namespace& entry : spec.linux_.namespaces) {
    if (entry.type == "network" && !entry.path.empty()) {
      const auto asked = namespace_of(entry.path);
      if (!asked) {
        return MakeError(ErrorCode::kNotFound, "linux.namespaces: network: {}: there is none",
                         entry.path);
      }
      if (asked == namespace_of("/proc/self/ns/net") || asked == namespace_of("/proc/1/ns/net")) {
        return Refused("network", "the host's own network cannot be given to a virtual machine");
      }
    }
  }
  return {};
}

std::optional<NamespaceId> NamespaceOnHost(const std::string& path) {
  const auto info = sys::Stat(path);
  return info ? std::optional(NamespaceId(info->st_dev, info->st_ino)) : std::nullopt;
}

}  // namespace bulkhead::shim
