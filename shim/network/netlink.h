// A conversation with the kernel's routing tables, rtnetlink(7), in a network namespace of choice.
#pragma once

#include <linux/rtnetlink.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead::shim {

using Bytes = std::span<const std::byte>;

// A request, built from its header on.
class NetlinkRequest {
 public:
  // `header`: what follows nlmsghdr for this type, such as ifinfomsg.
  template <typename Header>
  NetlinkRequest(uint16_t type, uint16_t flags, const Header& header) {
    data_.resize(NLMSG_HDRLEN);
    nlmsghdr message{};
    message.nlmsg_type = type;
    message.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | NLM_F_ACK | flags);
    std::memcpy(data_.data(), &message, sizeof(message));
    Append(&header, sizeof(header));
  }

  void Put(uint16_t attribute, const void* value, size_t size);
  void Put(uint16_t attribute, uint32_t value) { Put(attribute, &value, sizeof(value)); }
  void Put(uint16_t attribute, uint8_t value) { Put(attribute, &value, sizeof(value)); }
  void Put(uint16_t attribute, const std::string& value) {
    Put(attribute, value.c_str(), value.size() + 1);
  }
  // What is put between the two is within the attribute.
  size_t Begin(uint16_t attribute);
  void End(size_t begin);

  // The whole message, with the length and this sequence number in its header.
  Bytes Finish(uint32_t sequence);

 private:
  void Append(const void* value, size_t size);  // aligned

  std::vector<std::byte> data_;
};

// The attributes of a message, or within one. Of two of a kind the last counts.
class NetlinkAttributes {
 public:
  explicit NetlinkAttributes(Bytes data);

  bool Has(uint16_t type) const { return values_.contains(type); }
  Bytes Get(uint16_t type) const;  // empty: none
  std::string String(uint16_t type) const;
  std::string Binary(uint16_t type) const;
  // 0 when it has none of this size.
  uint32_t U32(uint16_t type) const { return Number<uint32_t>(type); }
  uint8_t U8(uint16_t type) const { return Number<uint8_t>(type); }
  NetlinkAttributes Nested(uint16_t type) const { return NetlinkAttributes(Get(type)); }

 private:
  template <typename T>
  T Number(uint16_t type) const {
    T value{};
    if (const Bytes bytes = Get(type); bytes.size() == sizeof(value)) {
      std::memcpy(&value, bytes.data(), sizeof(value));
    }
    return value;
  }

  std::map<uint16_t, Bytes> values_;
};

// One message of the kernel.
class NetlinkAnswer {
 public:
  NetlinkAnswer(uint16_t type, Bytes body) : type_(type), body_(body.begin(), body.end()) {}

  uint16_t type() const { return type_; }
  // Zeros when the message is too short.
  template <typename Header>
  Header As() const {
    Header header{};
    std::memcpy(&header, body_.data(), std::min(sizeof(header), body_.size()));
    return header;
  }
  // Those after a header of this type. Valid as long as the answer is.
  template <typename Header>
  NetlinkAttributes Attributes() const {
    return NetlinkAttributes(
        Bytes(body_).subspan(std::min(NLMSG_ALIGN(sizeof(Header)), body_.size())));
  }

 private:
  uint16_t type_;
  std::vector<std::byte> body_;
};

// Not thread-safe.
class Netlink {
 public:
  static Result<Netlink> Open(int netns);

  // Waits for the kernel's yes, or gives its no: an errno and, where it has some, its own words.
  Status Execute(NetlinkRequest request);
  // The answer to a question that is no dump.
  Result<NetlinkAnswer> Ask(NetlinkRequest request);
  // All there is, of one moment. kResourceExhausted: more than `limit`.
  Result<std::vector<NetlinkAnswer>> Dump(NetlinkRequest request, size_t limit);

 private:
  explicit Netlink(UniqueFd socket) : socket_(std::move(socket)) {}

  struct Reply {
    std::vector<NetlinkAnswer> answers;
    bool interrupted = false;  // the tables changed under a dump
    bool too_many = false;
  };
  Status Send(NetlinkRequest& request);
  Result<Reply> Receive(size_t limit);
  // One message; true when it is the last.
  static Result<bool> Take(const nlmsghdr& header, Bytes body, size_t limit, Reply& reply);

  UniqueFd socket_;
  uint32_t sequence_ = 0;
};

}  // namespace bulkhead::shim
