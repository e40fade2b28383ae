#include "rpc/ttrpc_status.h"

#include <string>
#include <string_view>

#include "rpc/codes.h"

namespace bulkhead::rpc {
namespace {

constexpr size_t kMaxSentMessage = 16384;

// The length of the UTF-8 character at the front of `text`, which is not empty; 0 for none.
size_t CharacterLength(std::string_view text) {
  const auto byte = [&](size_t index) { return static_cast<unsigned char>(text[index]); };
  const unsigned char first = byte(0);
  const size_t length = first < 0x80   ? 1
                        : first < 0xc2 ? 0
                        : first < 0xe0 ? 2
                        : first < 0xf0 ? 3
                        : first < 0xf5 ? 4
                                       : 0;
  if (length > text.size()) {
    return 0;
  }
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0U) != 0x80) {
      return 0;
    }
  }
  // No overlong forms, no surrogates, nothing beyond U+10FFFF.
  if ((first == 0xe0 && byte(1) < 0xa0) || (first == 0xed && byte(1) >= 0xa0) ||
      (first == 0xf0 && byte(1) < 0x90) || (first == 0xf4 && byte(1) >= 0x90)) {
    return 0;
  }
  return length;
}

// A protobuf string must be UTF-8, or the peer drops the whole answer; a path may be anything.
std::string MakeUtf8(std::string_view text) {
  std::string result;
  text = text.substr(0, kMaxSentMessage);
  result.reserve(text.size());
  while (!text.empty()) {
    const size_t length = CharacterLength(text);
    if (length == 0) {
      result += '?';
      text.remove_prefix(1);
    } else {
      result += text.substr(0, length);
      text.remove_prefix(length);
    }
  }
  return result;
}

}  // namespace

google::rpc::Status ToRpcStatus(const Error& error, ErrorDetail detail) {
  const CodeRow& row = WireCode(error.code());
  google::rpc::Status status;
  status.set_code(row.number);
  status.set_message(MakeUtf8(error.message()));
  if (detail == ErrorDetail::kCode) {
    auto* code = status.add_details();
    code->set_type_url(kErrorCodeTypeUrl);
    code->set_value(std::string(row.name));
  }
  return status;
}

Error FromRpcStatus(const google::rpc::Status& status) {
  std::string_view name;
  for (const auto& detail : status.details()) {
    if (detail.type_url() == kErrorCodeTypeUrl) {
      name = detail.value();
    }
  }
  return {CodeFromWire(name, status.code()), PrintableMessage(status.message())};
}

}  // namespace bulkhead::rpc
