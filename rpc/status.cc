#include "rpc/status.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

namespace bulkhead::rpc {
namespace {

struct CodeRow {
  ErrorCode code;
  grpc::StatusCode grpc;
  std::string_view name;
};

// The first row of a gRPC code is what an answer without details means.
constexpr std::array kCodes{
    CodeRow{ErrorCode::kInternal, grpc::INTERNAL, "internal"},
    CodeRow{ErrorCode::kInvalidArgument, grpc::INVALID_ARGUMENT, "invalid-argument"},
    CodeRow{ErrorCode::kNotFound, grpc::NOT_FOUND, "not-found"},
    CodeRow{ErrorCode::kAlreadyExists, grpc::ALREADY_EXISTS, "already-exists"},
    CodeRow{ErrorCode::kFailedPrecondition, grpc::FAILED_PRECONDITION, "failed-precondition"},
    CodeRow{ErrorCode::kPermissionDenied, grpc::PERMISSION_DENIED, "permission-denied"},
    CodeRow{ErrorCode::kUnavailable, grpc::UNAVAILABLE, "unavailable"},
    CodeRow{ErrorCode::kDeadlineExceeded, grpc::DEADLINE_EXCEEDED, "deadline-exceeded"},
    CodeRow{ErrorCode::kResourceExhausted, grpc::RESOURCE_EXHAUSTED, "resource-exhausted"},
    CodeRow{ErrorCode::kUnimplemented, grpc::UNIMPLEMENTED, "unimplemented"},
    CodeRow{ErrorCode::kCommandNotFound, grpc::NOT_FOUND, "command-not-found"},
    CodeRow{ErrorCode::kCommandNotRunnable, grpc::PERMISSION_DENIED, "command-not-runnable"},
};

constexpr size_t kMaxMessage = 4096;

std::string Printable(std::string_view text) {
  std::string result(text.substr(0, kMaxMessage));
  std::replace_if(
      result.begin(), result.end(),
      [](unsigned char c) { return (c < 0x20 && c != '\n' && c != '\t') || c == 0x7f; }, '?');
  return result;
}

}  // namespace

grpc::Status ToGrpc(const Error& error) {
  const auto* row = std::find_if(kCodes.begin(), kCodes.end(),
                                 [&](const CodeRow& entry) { return entry.code == error.code(); });
  return {row->grpc, error.message(), std::string(row->name)};
}

grpc::Status ToGrpc(const Status& status) {
  return status ? grpc::Status::OK : ToGrpc(status.error());
}

Error FromGrpc(const grpc::Status& status) {
  const std::string details = status.error_details();
  const auto* row = std::find_if(kCodes.begin(), kCodes.end(),
                                 [&](const CodeRow& entry) { return entry.name == details; });
  if (row == kCodes.end()) {
    row = std::find_if(kCodes.begin(), kCodes.end(), [&](const CodeRow& entry) {
      return entry.grpc == status.error_code();
    });
  }
  const ErrorCode code = row == kCodes.end() ? ErrorCode::kInternal : row->code;
  return {code, Printable(status.error_message())};
}

}  // namespace bulkhead::rpc
