#include "rpc/status.h"

#include <string>

#include "rpc/codes.h"

namespace bulkhead::rpc {

grpc::Status ToGrpc(const Error& error) {
  const CodeRow& row = WireCode(error.code());
  return {static_cast<grpc::StatusCode>(row.number), error.message(), std::string(row.name)};
}

grpc::Status ToGrpc(const Status& status) {
  return status ? grpc::Status::OK : ToGrpc(status.error());
}

Error FromGrpc(const grpc::Status& status) {
  return {CodeFromWire(status.error_details(), status.error_code()),
          PrintableMessage(status.error_message())};
}

}  // namespace bulkhead::rpc
