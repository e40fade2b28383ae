#include "oci/id_mapping.h"

namespace bulkhead::oci {
std::string MapText(const std::vector<IdMapping>& mappings) {
  std::string text;
  for (const IdMapping& mapping : mappings) {
    text += fmt::format("{} {} {}\n", mapping.container_id, mapping.host_id, mapping.size);
  }
  return text;
}

std::optional<uint32_t> OutsideId(const std::vector<IdMapping>& mappings, uint32_t id) {
  for (const IdMapping& mapping : mappings) {
    if (id >= mapping.container_id && id - mapping.container_id < mapping.size) {
      return mapping.host_id + (id - mapping.container_id);
    }
  }
  return std::nullopt;
}

}  // namespace bulkhead::oci
