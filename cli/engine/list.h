// What `state` and `list` print, with runc's names.
#pragma once

#include <string>
#include <vector>

#include "cli/engine/container.h"

namespace bulkhead::cli {

struct ListedContainer {
  ContainerRecord record;
  LiveState state;
};
std::vector<ListedContainer> ListContainers(const Engine& engine);

std::string FullStateJson(const ContainerRecord& record, const LiveState& state);
std::string ContainersJson(const std::vector<ListedContainer>& containers);
std::string ContainersTable(const std::vector<ListedContainer>& containers);

}  // namespace bulkhead::cli
