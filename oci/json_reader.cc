#include "oci/json_reader.h"

namespace bulkhead::oci {
namespace {

// Absent in meaning: what Go writes for a field that nobody set.
bool IsTrivial(const json& value) {
  switch (value.type()) {
    case json::value_t::null:
      return true;
    case json::value_t::boolean:
      return !value.get<bool>();
    case json::value_t::string:
      return value.get_ref<const std::string&>().empty();
    case json::value_t::number_integer:
    case json::value_t::number_unsigned:
      return value == 0;
    case json::value_t::array:
      return value.empty();
    case json::value_t::object:
      for (const auto& member : value) {
        if (!IsTrivial(member)) {
          return false;
        }
      }
      return true;
    default:
      return false;
  }
}

}  // namespace

void Outcome::Fail(ErrorCode code, std::string_view path, std::string_view text) {
  if (ok()) {
    error_ =
        Error(code, fmt::format("{}: {}{}{}", document_, path, path.empty() ? "" : ": ", text));
  }
}

Fields::Fields(Outcome& outcome, const json& value, std::string path)
    : outcome_(outcome), value_(value), path_(std::move(path)) {
  if (!value_.is_object()) {
    outcome_.Malformed(path_, "expected an object");
  }
}

void Fields::Refuse(const char* name, std::string_view what) const {
  const json* field = Find(name);
  if (field != nullptr && !IsTrivial(*field)) {
    Unsupported(name, what);
  }
}

const json* Fields::Find(const char* name) const {
  if (!outcome_.ok()) {
    return nullptr;
  }
  const auto found = value_.find(name);
  return found == value_.end() || found->is_null() ? nullptr : &*found;
}

std::string Fields::PathOf(const char* name) const {
  return path_.empty() ? name : fmt::format("{}.{}", path_, name);
}

void Read(Outcome& outcome, const json& value, const std::string& path, bool& out) {
  if (!value.is_boolean()) {
    return outcome.Malformed(path, "expected true or false");
  }
  out = value.get<bool>();
}

void Read(Outcome& outcome, const json& value, const std::string& path, std::string& out) {
  if (!value.is_string()) {
    return outcome.Malformed(path, "expected a string");
  }
  out = value.get_ref<const std::string&>();
  if (out.find('\0') != std::string::npos) {
    outcome.Malformed(path, "contains a zero byte");
  }
}

}  // namespace bulkhead::oci
