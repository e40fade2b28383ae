// Errors in ttrpc answers: the one place where Error becomes a google.rpc.Status and back.
#pragma once

#include "base/result.h"
#include "google/rpc/status.pb.h"

namespace bulkhead::rpc {

// Bulkhead's own code goes along by name in a detail of this type, since google's are fewer. Only
// to a client whose request has this metadata: containerd 2 adds to the message that it knows no
// such type.
inline constexpr char kErrorCodeTypeUrl[] = "bulkhead.dev/ErrorCode";
inline constexpr char kErrorCodeMetadata[] = "bulkhead-error-code";

enum class ErrorDetail { kNone, kCode };

google::rpc::Status ToRpcStatus(const Error& error, ErrorDetail detail);

// `status` must not be OK (code 0). Its message is cut at 4 KiB and made printable.
Error FromRpcStatus(const google::rpc::Status& status);

}  // namespace bulkhead::rpc
