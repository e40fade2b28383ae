#include "shim/typed_any.h"

namespace bulkhead::shim {

google::protobuf::Any PackAny(const google::protobuf::MessageLite& message) {
  google::protobuf::Any any;
  any.set_type_url(message.GetTypeName());
  message.SerializeToString(any.mutable_value());
  return any;
}

std::string_view TypeName(const google::protobuf::Any& any) {
  const std::string_view url = any.type_url();
  return url.substr(url.rfind('/') + 1);  // npos + 1 is 0
}

}  // namespace bulkhead::shim
