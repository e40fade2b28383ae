#include "shim/network/netlink.h"

#include <linux/netlink.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>

#include "base/sys.h"
#include "shim/network/enter_netns.h"

namespace bulkhead::shim {
namespace {

constexpr size_t kBufferSize = 65536;  // the kernel's messages of a dump come in 32 KiB at most
constexpr int kAttempts = 10;
constexpr timeval kPatience{10, 0};  // the kernel answers at once

Status SetOption(int fd, int level, int option, const void* value, socklen_t size) {
  return sys::CheckCall(::setsockopt(fd, level, option, value, size), "netlink: setsockopt");
}

Result<UniqueFd> OpenSocket() {
  UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  TRY(sys::CheckCall(fd.get(), "netlink: socket"));
  const int on = 1;
  TRY(SetOption(fd.get(), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on)));
  TRY(SetOption(fd.get(), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on)));
  TRY(SetOption(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof(kPatience)));
  return fd;
}

// The kernel's no. `body` is an nlmsgerr, which attributes follow.
Status Refusal(Bytes body, uint16_t flags) {
  nlmsgerr error{};
  std::memcpy(&error, body.data(), std::min(sizeof(error), body.size()));
  if (error.error == 0) {
    return {};
  }
  std::string words;
  if ((flags & NLM_F_ACK_TLVS) != 0 && body.size() > sizeof(error)) {
    words = NetlinkAttributes(body.subspan(sizeof(error))).String(NLMSGERR_ATTR_MSG);
  }
  return MakeErrno(-error.error, "netlink{}{}", words.empty() ? "" : ": ", words);
}

}  // namespace

void NetlinkRequest::Append(const void* value, size_t size) {
  const size_t at = data_.size();
  data_.resize(at + NLMSG_ALIGN(size));
  if (size != 0) {
    std::memcpy(data_.data() + at, value, size);
  }
}

void NetlinkRequest::Put(uint16_t attribute, const void* value, size_t size) {
  const rtattr header{static_cast<uint16_t>(RTA_LENGTH(size)), attribute};
  Append(&header, sizeof(header));
  Append(value, size);
}

size_t NetlinkRequest::Begin(uint16_t attribute) {
  const size_t begin = data_.size();
  const rtattr header{0, attribute};
  Append(&header, sizeof(header));
  return begin;
}

void NetlinkRequest::End(size_t begin) {
  const auto length = static_cast<uint16_t>(data_.size() - begin);
  std::memcpy(data_.data() + begin + offsetof(rtattr, rta_len), &length, sizeof(length));
}

Bytes NetlinkRequest::Finish(uint32_t sequence) {
  const auto length = static_cast<uint32_t>(data_.size());
  std::memcpy(data_.data() + offsetof(nlmsghdr, nlmsg_len), &length, sizeof(length));
  std::memcpy(data_.data() + offsetof(nlmsghdr, nlmsg_seq), &sequence, sizeof(sequence));
  return data_;
}

NetlinkAttributes::NetlinkAttributes(Bytes data) {
  while (data.size() >= sizeof(rtattr)) {
    rtattr header{};
    std::memcpy(&header, data.data(), sizeof(header));
    if (header.rta_len < sizeof(header) || header.rta_len > data.size()) {
      return;
    }
    values_[header.rta_type & NLA_TYPE_MASK] =
        data.subspan(sizeof(header), header.rta_len - sizeof(header));
    data = data.subspan(std::min<size_t>(RTA_ALIGN(header.rta_len), data.size()));
  }
}

Bytes NetlinkAttributes::Get(uint16_t type) const {
  const auto found = values_.find(type);
  return found == values_.end() ? Bytes() : found->second;
}

std::string NetlinkAttributes::Binary(uint16_t type) const {
  const Bytes bytes = Get(type);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string NetlinkAttributes::String(uint16_t type) const {
  const std::string text = Binary(type);
  return text.substr(0, text.find('\0'));
}

Result<Netlink> Netlink::Open(int netns) {
  return Netlink(TRY(InNetns(netns, [] { return OpenSocket(); })));
}

Status Netlink::Send(NetlinkRequest& request) {
  const Bytes data = request.Finish(++sequence_);
  const ssize_t sent = ::send(socket_.get(), data.data(), data.size(), 0);
  return sys::CheckCall(sent, "netlink: send");
}

Status Netlink::Execute(NetlinkRequest request) {
  TRY(Send(request));
  TRY(Receive(1));
  return {};
}

Result<NetlinkAnswer> Netlink::Ask(NetlinkRequest request) {
  TRY(Send(request));
  Reply reply = TRY(Receive(1));
  if (reply.answers.empty()) {
    return MakeError(ErrorCode::kInternal, "netlink: no answer");
  }
  return std::move(reply.answers.front());
}

Result<std::vector<NetlinkAnswer>> Netlink::Dump(NetlinkRequest request, size_t limit) {
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    TRY(Send(request));
    Reply reply = TRY(Receive(limit));
    if (!reply.interrupted) {
      return std::move(reply.answers);
    }
  }
  return MakeError(ErrorCode::kUnavailable, "netlink: the tables do not stay the same");
}

Result<Netlink::Reply> Netlink::Receive(size_t limit) {
  Reply reply;
  std::vector<std::byte> buffer(kBufferSize);
  for (;;) {
    const ssize_t received = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_TRUNC);
    if (received < 0 && sys::LastErrno() == EINTR) {
      continue;
    }
    TRY(sys::CheckCall(received, "netlink: receive"));
    if (static_cast<size_t>(received) > buffer.size()) {
      return MakeError(ErrorCode::kResourceExhausted, "netlink: a message of {} bytes", received);
    }
    Bytes data = Bytes(buffer).first(static_cast<size_t>(received));
    while (data.size() >= NLMSG_HDRLEN) {
      nlmsghdr header{};
      std::memcpy(&header, data.data(), sizeof(header));
      if (header.nlmsg_len < NLMSG_HDRLEN || header.nlmsg_len > data.size()) {
        return MakeError(ErrorCode::kInternal, "netlink: a message of a wrong length");
      }
      const Bytes body = data.subspan(NLMSG_HDRLEN, header.nlmsg_len - NLMSG_HDRLEN);
      // What was said to an earlier request that failed midway is of no interest.
      if (header.nlmsg_seq == sequence_ && TRY(Take(header, body, limit, reply))) {
        if (reply.too_many) {
          return MakeError(ErrorCode::kResourceExhausted, "netlink: more than {} entries", limit);
        }
        return reply;
      }
      data = data.subspan(std::min<size_t>(NLMSG_ALIGN(header.nlmsg_len), data.size()));
    }
  }
}

Result<bool> Netlink::Take(const nlmsghdr& header, Bytes body, size_t limit, Reply& reply) {
  reply.interrupted = reply.interrupted || (header.nlmsg_flags & NLM_F_DUMP_INTR) != 0;
  switch (header.nlmsg_type) {
    case NLMSG_ERROR:
      TRY(Refusal(body, header.nlmsg_flags));
      return true;
    case NLMSG_DONE: {
      int error = 0;  // a dump that failed midway
      std::memcpy(&error, body.data(), std::min(sizeof(error), body.size()));
      if (error < 0) {
        return MakeErrno(-error, "netlink");
      }
      return true;
    }
    case NLMSG_NOOP:
      return false;
    default:
      // What is too much is read all the same: until then the kernel takes no other request.
      reply.too_many = reply.answers.size() == limit;
      if (!reply.too_many) {
        reply.answers.emplace_back(header.nlmsg_type, body);
      }
      return false;
  }
}

}  // namespace bulkhead::shim
