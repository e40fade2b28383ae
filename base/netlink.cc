#include "base/netlink.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>

#include "base/sys.h"

namespace bulkhead {
namespace {

constexpr size_t kBufferSize = 64U << 10U;  // a dump's messages come in 32 KiB at most
constexpr int kAttempts = 16;
constexpr timeval kPatience{10, 0};  // the kernel answers at once

void Pad(std::string& bytes) { bytes.resize(NLMSG_ALIGN(bytes.size())); }

template <typename T>
Status SetOption(int fd, int level, int option, const T& value) {
  return sys::CheckCall(::setsockopt(fd, level, option, &value, sizeof(value)),
                        "netlink: setsockopt");
}

// What an acknowledgement says: success, or an errno and perhaps the kernel's own words.
Status ToStatus(std::string_view body, uint16_t flags) {
  const int error = HeaderOf<nlmsgerr>(body).error;
  if (error == 0) {
    return {};
  }
  std::string words;
  if ((flags & NLM_F_ACK_TLVS) != 0) {
    words = AttributesAfter<nlmsgerr>(body).Text(NLMSGERR_ATTR_MSG);
  }
  return MakeErrno(-error, "{}", words.empty() ? "the kernel refuses" : words);
}

}  // namespace

void NetlinkRequest::Put(uint16_t attribute, std::string_view bytes) {
  Pad(body_);
  rtattr header{};
  header.rta_len = static_cast<uint16_t>(RTA_LENGTH(bytes.size()));
  header.rta_type = attribute;
  body_ += BytesOf(header);
  body_ += bytes;
}

size_t NetlinkRequest::Begin(uint16_t attribute) {
  Put(attribute, {});
  return body_.size() - sizeof(rtattr);
}

void NetlinkRequest::End(size_t begin) {
  const auto length = static_cast<uint16_t>(body_.size() - begin);
  body_.replace(begin + offsetof(rtattr, rta_len), sizeof(length), BytesOf(length));
}

std::string NetlinkRequest::Encode(uint32_t sequence, uint16_t more_flags) const {
  nlmsghdr header{};
  header.nlmsg_len = static_cast<uint32_t>(NLMSG_LENGTH(body_.size()));
  header.nlmsg_type = type_;
  header.nlmsg_flags = static_cast<uint16_t>(flags_ | more_flags | NLM_F_REQUEST);
  header.nlmsg_seq = sequence;
  std::string out(BytesOf(header));
  out += body_;
  Pad(out);
  return out;
}

NetlinkAttributes::NetlinkAttributes(std::string_view bytes) {
  while (bytes.size() >= sizeof(rtattr)) {
    const auto header = HeaderOf<rtattr>(bytes);
    if (header.rta_len < sizeof(header) || header.rta_len > bytes.size()) {
      return;
    }
    values_[header.rta_type & NLA_TYPE_MASK] =
        bytes.substr(sizeof(header), header.rta_len - sizeof(header));
    bytes.remove_prefix(std::min<size_t>(bytes.size(), RTA_ALIGN(header.rta_len)));
  }
}

std::string_view NetlinkAttributes::Get(uint16_t type) const {
  const auto found = values_.find(type);
  return found == values_.end() ? std::string_view() : found->second;
}

std::string NetlinkAttributes::Text(uint16_t type) const {
  const std::string_view bytes = Get(type);
  return std::string(bytes.substr(0, bytes.find('\0')));
}

Netlink::Netlink(UniqueFd socket) : socket_(std::move(socket)), buffer_(kBufferSize) {}

Result<Netlink> Netlink::Open(uint32_t groups) {
  UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  TRY(sys::CheckCall(fd.get(), "netlink: socket"));
  // Reasons in words, without the request repeated before them.
  TRY(SetOption(fd.get(), SOL_NETLINK, NETLINK_EXT_ACK, 1));
  TRY(SetOption(fd.get(), SOL_NETLINK, NETLINK_CAP_ACK, 1));
  TRY(SetOption(fd.get(), SOL_SOCKET, SO_RCVTIMEO, kPatience));
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = groups;
  TRY(sys::CheckCall(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)),
                     "netlink: bind"));
  return Netlink(std::move(fd));
}

Status Netlink::Send(const NetlinkRequest& request, uint16_t more_flags) {
  return sys::WriteAll(socket_.get(), request.Encode(++sequence_, more_flags));
}

Status Netlink::Execute(const NetlinkRequest& request) {
  TRY(Send(request, NLM_F_ACK));
  TRY(Receive(1));
  return {};
}

Result<NetlinkAnswer> Netlink::Ask(const NetlinkRequest& request) {
  TRY(Send(request, NLM_F_ACK));
  Reply reply = TRY(Receive(1));
  if (reply.answers.empty()) {
    return MakeError(ErrorCode::kInternal, "netlink: no answer");
  }
  return std::move(reply.answers.front());
}

Result<std::vector<NetlinkAnswer>> Netlink::Dump(const NetlinkRequest& request, size_t limit) {
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    TRY(Send(request, NLM_F_DUMP));
    Reply reply = TRY(Receive(limit));
    if (!reply.interrupted) {
      return std::move(reply.answers);
    }
  }
  return MakeError(ErrorCode::kUnavailable, "the network does not stop changing");
}

Result<std::string_view> Netlink::ReceiveDatagram(int flags) {
  for (;;) {
    sockaddr_nl from{};
    socklen_t length = sizeof(from);
    const ssize_t count =
        ::recvfrom(socket_.get(), buffer_.data(), buffer_.size(), flags | MSG_TRUNC,
                   reinterpret_cast<sockaddr*>(&from), &length);
    if (count == -1 && sys::LastErrno() == EINTR) {
      continue;
    }
    TRY(sys::CheckCall(count, "netlink: receive"));
    if (from.nl_pid != 0) {
      continue;  // not the kernel: others of the namespace may send here, too
    }
    if (static_cast<size_t>(count) > buffer_.size()) {
      return MakeError(ErrorCode::kResourceExhausted, "netlink: a message of {} bytes", count);
    }
    return std::string_view(buffer_.data(), static_cast<size_t>(count));
  }
}

Result<Netlink::Reply> Netlink::Receive(size_t limit) {
  Reply reply;
  for (;;) {
    std::string_view data = TRY(ReceiveDatagram(0));
    while (data.size() >= NLMSG_HDRLEN) {
      const auto header = HeaderOf<nlmsghdr>(data);
      if (header.nlmsg_len < NLMSG_HDRLEN || header.nlmsg_len > data.size()) {
        return MakeError(ErrorCode::kInternal, "netlink: a message of a wrong length");
      }
      const auto body = data.substr(NLMSG_HDRLEN, header.nlmsg_len - NLMSG_HDRLEN);
      // What was said to an earlier request that failed midway is of no interest.
      if (header.nlmsg_seq == sequence_ && TRY(Take(header, body, limit, reply))) {
        if (reply.too_many) {
          return MakeError(ErrorCode::kResourceExhausted, "netlink: more than {} entries", limit);
        }
        return reply;
      }
      data.remove_prefix(std::min<size_t>(NLMSG_ALIGN(header.nlmsg_len), data.size()));
    }
  }
}

Result<bool> Netlink::Take(const nlmsghdr& header, std::string_view body, size_t limit,
                           Reply& reply) {
  reply.interrupted = reply.interrupted || (header.nlmsg_flags & NLM_F_DUMP_INTR) != 0;
  switch (header.nlmsg_type) {
    case NLMSG_ERROR:
      TRY(ToStatus(body, header.nlmsg_flags));
      return true;
    case NLMSG_DONE:
      if (const int error = HeaderOf<int>(body); error < 0) {
        return MakeErrno(-error, "netlink");  // a dump that failed midway
      }
      return true;
    case NLMSG_NOOP:
      return false;
    default:
      // What is too much is read all the same: until then the kernel takes no other request.
      reply.too_many = reply.answers.size() == limit;
      if (!reply.too_many) {
        reply.answers.push_back({header.nlmsg_type, std::string(body)});
      }
      return false;
  }
}

Status Netlink::AwaitNews(std::chrono::milliseconds timeout) {
  if (!TRY(sys::PollOne(socket_.get(), POLLIN, timeout))) {
    return {};
  }
  for (;;) {
    const auto news = ReceiveDatagram(MSG_DONTWAIT);
    if (!news && news.error().errnum() == EAGAIN) {
      return {};
    }
    if (!news && news.error().errnum() != ENOBUFS) {  // ENOBUFS: more news than there is room for
      return tl::unexpected(news.error());
    }
  }
}

}  // namespace bulkhead
