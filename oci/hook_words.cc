#include "oci/hook_words.h"

#include <nlohmann/json.hpp>

#include "base/sys.h"

namespace bulkhead::oci {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxWords = 4096;

}  // namespace

std::string StateToJson(const HookState& state) {
  Json json{{"ociVersion", state.version},
            {"id", state.id},
            {"status", state.status},
            {"pid", state.pid},
            {"bundle", state.bundle}};
  if (!state.annotations.empty()) {
    json["annotations"] = state.annotations;
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string HookWords(const UniqueFd& file) {
  std::string said(kMaxWords, '\0');
  said.resize(sys::ReadAt(file.get(), std::as_writable_bytes(std::span(said)), 0).value_or(0));
  while (said.ends_with('\n')) {
    said.pop_back();
  }
  return said;
}

}  // namespace bulkhead::oci
