// Any bytes as what a ttrpc peer sends: the same frames however they are cut, and each parsed.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "containerd/ttrpc.pb.h"
#include "rpc/ttrpc_frame.h"
#include "rpc/ttrpc_status.h"

namespace {

using bulkhead::rpc::TtrpcDecoder;
using bulkhead::rpc::TtrpcFrame;

std::vector<TtrpcFrame> Decode(std::string_view bytes, size_t piece) {
  TtrpcDecoder decoder;
  std::vector<TtrpcFrame> frames;
  while (!bytes.empty()) {
    std::string_view part = bytes.substr(0, piece);
    bytes.remove_prefix(part.size());
    TtrpcFrame frame;
    while (decoder.Next(part, frame)) {
      frames.push_back(frame);
    }
    if (!part.empty()) {
      std::abort();
    }
  }
  return frames;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) {
    return 0;
  }
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto whole = Decode(bytes, size);
  const auto pieces = Decode(bytes, 1 + data[0] % 16U);
  if (!std::equal(whole.begin(), whole.end(), pieces.begin(), pieces.end(),
                  [](const TtrpcFrame& a, const TtrpcFrame& b) {
                    return a.stream == b.stream && a.type == b.type && a.flags == b.flags &&
                           a.too_long == b.too_long && a.data == b.data;
                  })) {
    std::abort();
  }
  for (const TtrpcFrame& frame : whole) {
    ttrpc::Request request;
    (void)request.ParseFromString(frame.data);
    ttrpc::Response response;
    if (response.ParseFromString(frame.data)) {
      const auto again = bulkhead::rpc::ToRpcStatus(bulkhead::rpc::FromRpcStatus(response.status()),
                                                    bulkhead::rpc::ErrorDetail::kCode);
      google::rpc::Status copy;
      if (!copy.ParseFromString(again.SerializeAsString())) {
        std::abort();  // ours must always parse: its strings are UTF-8
      }
    }
  }
  return 0;
}
