// Reads JSON into structs: each struct T has a ReadFields(const Fields&, T&) that names its fields.
// The first error of a document wins, and names the place.
#pragma once

#include <concepts>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace bulkhead::oci {

using nlohmann::json;

// The first error of a parse; what follows it is skipped.
class Outcome {
 public:
  explicit Outcome(std::string document) : document_(std::move(document)) {}
  bool ok() const { return !error_; }
  void Fail(ErrorCode code, std::string_view path, std::string_view text);
  void Malformed(std::string_view path, std::string_view text) {
    Fail(ErrorCode::kInvalidArgument, path, text);
  }
  void Warn(std::string warning) { warnings_.push_back(std::move(warning)); }
  Error TakeError() { return std::move(*error_); }
  std::vector<std::string> TakeWarnings() { return std::move(warnings_); }

 private:
  const std::string document_;
  std::optional<Error> error_;
  std::vector<std::string> warnings_;
};

// One JSON object and its place in the document.
class Fields {
 public:
  Fields(Outcome& outcome, const json& value, std::string path);

  // An absent or null field leaves `out` as it is.
  template <typename T>
  void Get(const char* name, T& out) const;
  template <typename T>
  void Require(const char* name, T& out) const {
    if (Find(name) == nullptr) {
      Fail(name, "missing");
    }
    Get(name, out);
  }
  // Of a right form, and of no effect. Says so if there is a reason to tell.
  template <typename T>
  void GetWithoutEffect(const char* name, std::string_view why) const;
  // Something asked for that Bulkhead does not do: anything but what Go writes for a field that
  // nobody set.
  void Refuse(const char* name, std::string_view what) const;
  void Unsupported(const char* name, std::string_view what) const {
    outcome_.Fail(ErrorCode::kUnimplemented, PathOf(name), fmt::format("{} not supported", what));
  }
  void Fail(const char* name, std::string_view text) const {
    outcome_.Malformed(PathOf(name), text);
  }
  void Warn(const char* name, std::string_view text) const {
    outcome_.Warn(fmt::format("{}: {}", PathOf(name), text));
  }
  // An error, if it is one, as that of the field.
  void Check(const char* name, const auto& result) const {
    if (!result) {
      outcome_.Fail(result.error().code(), PathOf(name), result.error().message());
    }
  }

 private:
  const json* Find(const char* name) const;
  std::string PathOf(const char* name) const;

  Outcome& outcome_;
  const json& value_;
  const std::string path_;
};

void Read(Outcome& outcome, const json& value, const std::string& path, bool& out);
void Read(Outcome& outcome, const json& value, const std::string& path, std::string& out);

template <std::integral T>
void Read(Outcome& outcome, const json& value, const std::string& path, T& out) {
  if (!value.is_number_integer()) {
    return outcome.Malformed(path, "expected a whole number");
  }
  const bool fits = value.is_number_unsigned() ? std::in_range<T>(value.get<uint64_t>())
                                               : std::in_range<T>(value.get<int64_t>());
  if (!fits) {
    return outcome.Malformed(path, "number out of range");
  }
  out = value.is_number_unsigned() ? static_cast<T>(value.get<uint64_t>())
                                   : static_cast<T>(value.get<int64_t>());
}

// Declared before they are used by one another.
template <typename T>
void Read(Outcome& outcome, const json& value, const std::string& path, T& out);
template <typename T>
void Read(Outcome& outcome, const json& value, const std::string& path, std::optional<T>& out);
template <typename T>
void Read(Outcome& outcome, const json& value, const std::string& path, std::vector<T>& out);
template <typename T>
void Read(Outcome& outcome, const json& value, const std::string& path,
          std::map<std::string, T>& out);

// Structs: whatever has a ReadFields.
template <typename T>
void Read(Outcome& outcome, const json& value, const std::string& path, T& out) {
  const Fields fields(outcome, value, path);
  if (outcome.ok()) {
    ReadFields(fields, out);
  }
}

template <typename T>
void Read(Outcome& outcome, const json& value, const std::string& path, std::optional<T>& out) {
  Read(outcome, value, path, out.emplace());
}

template <typename T>
void Read(Outcome& outcome, const json& value, const std::string& path, std::vector<T>& out) {
  if (!value.is_array()) {
    return outcome.Malformed(path, "expected an array");
  }
  out.clear();
  out.reserve(value.size());
  for (const auto& element : value) {
    const std::string place = fmt::format("{}[{}]", path, out.size());
    Read(outcome, element, place, out.emplace_back());
  }
}

template <typename T>
void Read(Outcome& outcome, const json& value, const std::string& path,
          std::map<std::string, T>& out) {
  if (!value.is_object()) {
    return outcome.Malformed(path, "expected an object");
  }
  for (const auto& [key, member] : value.items()) {
    Read(outcome, member, fmt::format("{}[\"{}\"]", path, key), out[key]);
  }
}

template <typename T>
void Fields::Get(const char* name, T& out) const {
  if (const json* field = Find(name)) {
    Read(outcome_, *field, PathOf(name), out);
  }
}

template <typename T>
void Fields::GetWithoutEffect(const char* name, std::string_view why) const {
  T value{};
  Get(name, value);
  if (!why.empty() && value != T{}) {
    Warn(name, fmt::format("has no effect: {}", why));
  }
}

}  // namespace bulkhead::oci
