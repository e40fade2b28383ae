// rtnetlink (man 7 rtnetlink) as far as the pod's network needs it: messages are built from
// attributes, requests answered, tables dumped.
//
// Not libnl: linked statically it would add 500 KiB to an agent that lies in every guest's memory,
// it brings getaddrinfo and lookups in /etc, and its rules cannot be inverted.
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

namespace bulkhead::agent {

template <typename T>
std::string_view BytesOf(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

// A request: the family's fixed header, then attributes.
class NetlinkMessage {
 public:
  template <typename Header>
  NetlinkMessage(uint16_t type, uint16_t flags, const Header& header)
      : type_(type), flags_(flags), body_(BytesOf(header)) {}

  void Add(uint16_t type, std::string_view bytes);
  template <typename T>
  void AddValue(uint16_t type, T value) {
    Add(type, BytesOf(value));
  }
  void AddText(uint16_t type, const std::string& text) {
    Add(type, std::string_view(text.c_str(), text.size() + 1));
  }
  // What is added in between lies within an attribute of this type.
  size_t BeginNest(uint16_t type);
  void EndNest(size_t begin);

  // As it is sent.
  std::string Encode(uint32_t sequence, uint16_t more_flags) const;

 private:
  uint16_t type_;
  uint16_t flags_;
  std::string body_;
};

// A message's or a nest's attributes; refers to the bytes. What is cut short is left out.
class NetlinkAttributes {
 public:
  explicit NetlinkAttributes(std::string_view bytes);

  bool Has(uint16_t type) const { return values_.contains(type); }
  // Each of these is empty or zero when there is none, or it is too short.
  std::string_view Bytes(uint16_t type) const;
  NetlinkAttributes Nest(uint16_t type) const { return NetlinkAttributes(Bytes(type)); }
  std::string Text(uint16_t type) const;
  template <typename T>
  T Value(uint16_t type) const {
    const std::string_view bytes = Bytes(type);
    T value{};
    if (bytes.size() >= sizeof(value)) {
      bytes.copy(reinterpret_cast<char*>(&value), sizeof(value));
    }
    return value;
  }

 private:
  std::map<uint16_t, std::string_view> values_;
};

// The fixed header at the front of a message's body; zeros when it is too short.
template <typename Header>
Header HeaderOf(std::string_view body) {
  Header header{};
  if (body.size() >= sizeof(header)) {
    body.copy(reinterpret_cast<char*>(&header), sizeof(header));
  }
  return header;
}

template <typename Header>
NetlinkAttributes AttributesAfter(std::string_view body) {
  constexpr size_t kAt = NLMSG_ALIGN(sizeof(Header));
  return NetlinkAttributes(body.size() > kAt ? body.substr(kAt) : std::string_view());
}

class NetlinkSocket {
 public:
  // `groups`: RTMGRP_* whose changes AwaitNews tells of.
  static Result<NetlinkSocket> Open(uint32_t groups = 0);

  // Returns when the kernel has done it, or with its reason.
  Status Request(const NetlinkMessage& message);
  // The bodies of the messages that the kernel answers with.
  Result<std::vector<std::string>> Dump(const NetlinkMessage& message);
  // Returns when something has changed (what, one has to look) or the time has run out.
  Status AwaitNews(std::chrono::milliseconds timeout);

 private:
  explicit NetlinkSocket(UniqueFd fd);
  Status Send(const NetlinkMessage& message, uint16_t more_flags);
  // One datagram of the kernel's; until the next call.
  Result<std::string_view> Receive(int flags);
  struct DumpResult {
    std::vector<std::string> bodies;
    bool torn = false;  // the table changed meanwhile
  };
  Result<DumpResult> DumpOnce(const NetlinkMessage& message);

  UniqueFd fd_;
  std::vector<char> buffer_;
  uint32_t sequence_ = 0;
};

}  // namespace bulkhead::agent
