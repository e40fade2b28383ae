// Messages in a google.protobuf.Any as containerd names their types: the full name alone.
#pragma once

#include <google/protobuf/message_lite.h>

#include <string_view>

#include "google/protobuf/any.pb.h"

namespace bulkhead::shim {

google::protobuf::Any PackAny(const google::protobuf::MessageLite& message);

// The message's name, whichever prefix ("type.googleapis.com/") its sender put before it.
std::string_view TypeName(const google::protobuf::Any& any);

}  // namespace bulkhead::shim
