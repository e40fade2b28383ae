#include "oci/image_user.h"

#include "oci/layer_stack.h"

namespace bulkhead::oci {
namespace {

constexpr size_t kMaxFile = 4U << 20U;

}  // namespace

Result<ResolvedUser> ResolveUser(const std::string& spec, const std::vector<std::string>& layers,
                                 const std::vector<std::string>& extra_groups) {
  const LayerStack stack = TRY(LayerStack::Open(layers));
  const auto passwd = TRY(stack.ReadFile("etc/passwd", kMaxFile));
  const auto group = TRY(stack.ReadFile("etc/group", kMaxFile));
  return ResolveUserFrom(spec, passwd.value_or(""), group.value_or(""), extra_groups);
}

}  // namespace bulkhead::oci
