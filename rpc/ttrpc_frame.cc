#include "rpc/ttrpc_frame.h"

#include <algorithm>

namespace bulkhead::rpc {
namespace {

void AppendU32(std::string& out, uint32_t value) {
  for (const int shift : {24, 16, 8, 0}) {
    out += static_cast<char>((value >> static_cast<unsigned>(shift)) & 0xffU);
  }
}

uint32_t ReadU32(std::string_view bytes) {
  uint32_t value = 0;
  for (const char byte : bytes.substr(0, 4)) {
    value = (value << 8U) | static_cast<unsigned char>(byte);
  }
  return value;
}

// Moves up to `count` bytes from the front of `bytes` to the end of `out`.
void Take(std::string_view& bytes, size_t count, std::string& out) {
  const std::string_view part = bytes.substr(0, count);
  out += part;
  bytes.remove_prefix(part.size());
}

}  // namespace

std::string EncodeTtrpcFrame(uint32_t stream, TtrpcType type, uint8_t flags,
                             std::string_view data) {
  std::string frame;
  frame.reserve(kTtrpcHeaderSize + data.size());
  AppendU32(frame, static_cast<uint32_t>(data.size()));
  AppendU32(frame, stream);
  frame += static_cast<char>(type);
  frame += static_cast<char>(flags);
  frame += data;
  return frame;
}

bool TtrpcDecoder::Next(std::string_view& bytes, TtrpcFrame& frame) {
  const size_t skipped = std::min<size_t>(skip_, bytes.size());
  bytes.remove_prefix(skipped);
  skip_ -= static_cast<uint32_t>(skipped);
  if (skip_ > 0) {
    return false;
  }
  if (header_.size() < kTtrpcHeaderSize) {
    Take(bytes, kTtrpcHeaderSize - header_.size(), header_);
    if (header_.size() < kTtrpcHeaderSize) {
      return false;
    }
    length_ = ReadU32(header_);
    frame_ = {};
    frame_.stream = ReadU32(std::string_view(header_).substr(4));
    frame_.type = static_cast<TtrpcType>(header_[8]);
    frame_.flags = static_cast<uint8_t>(header_[9]);
    if (length_ > kTtrpcMaxData) {
      frame_.too_long = true;
      skip_ = length_;
      length_ = 0;
    }
  }
  Take(bytes, length_ - frame_.data.size(), frame_.data);
  if (frame_.data.size() < length_) {
    return false;
  }
  frame = std::move(frame_);
  frame_ = {};
  header_.clear();
  return true;
}

}  // namespace bulkhead::rpc
