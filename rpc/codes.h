// Error codes on the wire: the one table of gRPC's number and Bulkhead's name for each ErrorCode.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace bulkhead::rpc {

struct CodeRow {
  ErrorCode code;
  int number;  // of google.rpc.Code, which is gRPC's
  std::string_view name;
};

const CodeRow& WireCode(ErrorCode code);

// The code of a name; of the number, when there is no such name; else kInternal.
ErrorCode CodeFromWire(std::string_view name, int number);

// A peer's message for our logs and terminals: cut at 4 KiB, control characters replaced.
std::string PrintableMessage(std::string_view text);

}  // namespace bulkhead::rpc
