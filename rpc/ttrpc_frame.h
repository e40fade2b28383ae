// ttrpc on the wire: a header of ten bytes, then data. Bytes in, frames out; no I/O here.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace bulkhead::rpc {

enum class TtrpcType : uint8_t { kRequest = 1, kResponse = 2, kData = 3 };

inline constexpr size_t kTtrpcHeaderSize = 10;
inline constexpr size_t kTtrpcMaxData = 4U << 20U;
inline constexpr uint8_t kTtrpcRemoteClosed = 0x1;
inline constexpr uint8_t kTtrpcRemoteOpen = 0x2;
inline constexpr uint8_t kTtrpcNoData = 0x4;

struct TtrpcFrame {
  uint32_t stream = 0;
  TtrpcType type = TtrpcType::kRequest;  // as it came: it may be none of the enumerators
  uint8_t flags = 0;
  bool too_long = false;  // its data was longer than kTtrpcMaxData and has been skipped
  std::string data;
};

// `data` must not be longer than kTtrpcMaxData.
std::string EncodeTtrpcFrame(uint32_t stream, TtrpcType type, uint8_t flags, std::string_view data);

// Takes the bytes of a connection in pieces of any size. Every sequence of bytes is a sequence of
// frames; the memory held is that of one frame and of the bytes given at once.
class TtrpcDecoder {
 public:
  // Takes a prefix of `bytes`, up to the end of a frame, and removes it from `bytes`. True when
  // `frame` now holds a frame: call again while it returns true. A frame that is too long comes
  // as soon as its header is there; its data is skipped as it arrives.
  bool Next(std::string_view& bytes, TtrpcFrame& frame);

  // True when the bytes so far end inside a frame.
  bool mid_frame() const { return !header_.empty() || skip_ > 0; }

 private:
  std::string header_;   // what there is of the header of the frame at hand
  TtrpcFrame frame_;     // the frame at hand, when the header is whole
  uint32_t length_ = 0;  // its data, in all
  uint32_t skip_ = 0;    // bytes left of the data of a frame that was too long
};

}  // namespace bulkhead::rpc
