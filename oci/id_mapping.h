// Mappings of user and group ids: of a user namespace, or of a mount.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "oci/spec.h"

namespace bulkhead::oci {

// As user_namespaces(7) wants them in /proc/PID/uid_map.
std::string MapText(const std::vector<IdMapping>& mappings);

// What an id of the container is outside; nullopt: nothing.
std::optional<uint32_t> OutsideId(const std::vector<IdMapping>& mappings, uint32_t id);

}  // namespace bulkhead::oci
