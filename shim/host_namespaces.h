// Namespaces of the host itself, in which a VM can have no part.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "base/result.h"
#include "oci/spec.h"

namespace bulkhead::shim {

// What tells namespaces apart: device and inode of their file; nullopt: there is none.
using NamespaceId = std::pair<uint64_t, uint64_t>;
using NamespaceOf = std::function<std::optional<NamespaceId>(const std::string& path)>;
std::optional<NamespaceId> NamespaceOnHost(const std::string& path);

// What asks for the host's is an error that names the field.
Status RefuseHostNetwork(const oci::Spec& spec, const NamespaceOf& namespace_of);
Status RefuseHostProcesses(const oci::Spec& spec);

}  // namespace bulkhead::shim
