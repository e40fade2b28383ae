// A conversation with the kernel's routing tables, rtnetlink(7): requests are built from attributes
// and answered, tables dumped.
//
// Not libnl: linked statically it would add 500 KiB to an agent that lies in every guest's memory,
// nothing bounds the size of its caches, and its rules cannot be inverted.
#pragma once

#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead {

// The bytes of a value of fixed layout, as the kernel wants them.
template <typename T>
std::string_view BytesOf(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

// The fixed header at the front of a message's body; zeros when it is too short.
template <typename Header>
Header HeaderOf(std::string_view body) {
  Header header{};
  if (body.size() >= sizeof(header)) {
    body.copy(reinterpret_cast<char*>(&header), sizeof(header));
  }
  return header;
}

// A request: the family's fixed header, then attributes.
class NetlinkRequest {
 public:
  // `flags`: NLM_F_*; NLM_F_REQUEST is added. `header`: such as ifinfomsg.
  template <typename Header>
  NetlinkRequest(uint16_t type, uint16_t flags, const Header& header)
      : type_(type), flags_(flags), body_(BytesOf(header)) {}

  void Put(uint16_t attribute, std::string_view bytes);
  template <typename T>
  void PutValue(uint16_t attribute, T value) {
    Put(attribute, BytesOf(value));
  }
  void PutText(uint16_t attribute, const std::string& text) {
    Put(attribute, std::string_view(text.c_str(), text.size() + 1));
  }
  // What is put between the two is within the attribute.
  size_t Begin(uint16_t attribute);
  void End(size_t begin);

  // As it is sent.
  std::string Encode(uint32_t sequence, uint16_t more_flags) const;

 private:
  uint16_t type_;
  uint16_t flags_;
  std::string body_;
};

// The attributes of a message, or within one; refers to the bytes. Of two of a kind the last
// counts; what is cut short is left out.
class NetlinkAttributes {
 public:
  explicit NetlinkAttributes(std::string_view bytes);

  bool Has(uint16_t type) const { return values_.contains(type); }
  // Each of these is empty or zero when there is none, or it is too short.
  std::string_view Get(uint16_t type) const;
  std::string Text(uint16_t type) const;
  std::string Binary(uint16_t type) const { return std::string(Get(type)); }
  template <typename T>
  T Value(uint16_t type) const {
    return HeaderOf<T>(Get(type));
  }
  NetlinkAttributes Nested(uint16_t type) const { return NetlinkAttributes(Get(type)); }

 private:
  std::map<uint16_t, std::string_view> values_;
};

// Those that follow a header.
template <typename Header>
NetlinkAttributes AttributesAfter(std::string_view body) {
  constexpr size_t kAt = NLMSG_ALIGN(sizeof(Header));
  return NetlinkAttributes(body.size() > kAt ? body.substr(kAt) : std::string_view());
}

// One message of the kernel.
struct NetlinkAnswer {
  uint16_t type = 0;
  std::string body;

  template <typename Header>
  Header As() const {
    return HeaderOf<Header>(body);
  }
  // Valid as long as the answer is.
  template <typename Header>
  NetlinkAttributes Attributes() const {
    return AttributesAfter<Header>(body);
  }
};

// Not thread-safe.
class Netlink {
 public:
  // In the network namespace of the calling thread, for good. `groups`: RTMGRP_* whose changes
  // AwaitNews tells of.
  static Result<Netlink> Open(uint32_t groups = 0);

  int fd() const { return socket_.get(); }  // readable: there is news

  // Waits for the kernel's yes, or gives its no: an errno and, where it has some, its own words.
  Status Execute(const NetlinkRequest& request);
  // The answer to a question that is no dump.
  Result<NetlinkAnswer> Ask(const NetlinkRequest& request);
  // All there is, of one moment. kResourceExhausted: more than `limit`.
  Result<std::vector<NetlinkAnswer>> Dump(const NetlinkRequest& request, size_t limit);
  // Returns when something has changed (what, one has to look) or the time has run out.
  Status AwaitNews(std::chrono::milliseconds timeout);

 private:
  explicit Netlink(UniqueFd socket);

  struct Reply {
    std::vector<NetlinkAnswer> answers;
    bool interrupted = false;  // the tables changed under a dump
    bool too_many = false;
  };
  Status Send(const NetlinkRequest& request, uint16_t more_flags);
  // One datagram of the kernel's; until the next call.
  Result<std::string_view> ReceiveDatagram(int flags);
  Result<Reply> Receive(size_t limit);
  // One message; true when it is the last.
  static Result<bool> Take(const nlmsghdr& header, std::string_view body, size_t limit,
                           Reply& reply);

  UniqueFd socket_;
  std::vector<char> buffer_;
  uint32_t sequence_ = 0;
};

}  // namespace bulkhead
