// What the parts of a config.json say together: refused where runc refuses it. For the document as
// an engine wrote it; the guest gets one with other namespaces.
#pragma once

#include <string_view>

#include "base/result.h"
#include "oci/spec.h"

namespace bulkhead::oci {

// Host and domain names, sysctls and offsets of clocks belong to namespaces that must be the
// container's.
Status CheckSpec(const Spec& spec);

// The kind of namespace that the parameter belongs to ("net/ipv4/ip_forward": "network"); "": none,
// so it is the whole kernel's.
std::string_view NamespaceOfSysctl(std::string_view path);

}  // namespace bulkhead::oci
