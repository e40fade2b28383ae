#include "rpc/codes.h"

#include <algorithm>
#include <array>

namespace bulkhead::rpc {
namespace {

// The first row of a number is what an answer without a name means.
constexpr std::array kCodes{
    CodeRow{ErrorCode::kInternal, 13, "internal"},
    CodeRow{ErrorCode::kInvalidArgument, 3, "invalid-argument"},
    CodeRow{ErrorCode::kNotFound, 5, "not-found"},
    CodeRow{ErrorCode::kAlreadyExists, 6, "already-exists"},
    CodeRow{ErrorCode::kFailedPrecondition, 9, "failed-precondition"},
    CodeRow{ErrorCode::kPermissionDenied, 7, "permission-denied"},
    CodeRow{ErrorCode::kUnavailable, 14, "unavailable"},
    CodeRow{ErrorCode::kDeadlineExceeded, 4, "deadline-exceeded"},
    CodeRow{ErrorCode::kResourceExhausted, 8, "resource-exhausted"},
    CodeRow{ErrorCode::kUnimplemented, 12, "unimplemented"},
    CodeRow{ErrorCode::kCommandNotFound, 5, "command-not-found"},
    CodeRow{ErrorCode::kCommandNotRunnable, 7, "command-not-runnable"},
};

constexpr size_t kMaxMessage = 4096;

}  // namespace

const CodeRow& WireCode(ErrorCode code) {
  const auto* row = std::find_if(kCodes.begin(), kCodes.end(),
                                 [&](const CodeRow& entry) { return entry.code == code; });
  return row == kCodes.end() ? kCodes.front() : *row;
}

ErrorCode CodeFromWire(std::string_view name, int number) {
  const auto* row = std::find_if(kCodes.begin(), kCodes.end(),
                                 [&](const CodeRow& entry) { return entry.name == name; });
  if (row == kCodes.end()) {
    row = std::find_if(kCodes.begin(), kCodes.end(),
                       [&](const CodeRow& entry) { return entry.number == number; });
  }
  return row == kCodes.end() ? ErrorCode::kInternal : row->code;
}

std::string PrintableMessage(std::string_view text) {
  std::string result(text.substr(0, kMaxMessage));
  std::replace_if(
      result.begin(), result.end(),
      [](unsigned char c) { return (c < 0x20 && c != '\n' && c != '\t') || c == 0x7f; }, '?');
  return result;
}

}  // namespace bulkhead::rpc
