#include "agent/pod_user_namespaces.h"

#include "base/sys.h"
#include "base/user_namespace.h"
#include "oci/id_mapping.h"

namespace bulkhead::agent {

Result<UniqueFd> PodUserNamespaces::Enter(const oci::Linux& section) {
  const std::pair maps(oci::MapText(section.uid_mappings), oci::MapText(section.gid_mappings));
  const std::scoped_lock lock(mutex_);
  auto found = namespaces_.find(maps);
  if (found == namespaces_.end()) {
    UniqueFd made = TRY(MakeUserNamespace(maps.first, maps.second));
    found = namespaces_.emplace(maps, std::move(made)).first;
  }
  return sys::Dup(found->second.get());
}

}  // namespace bulkhead::agent
