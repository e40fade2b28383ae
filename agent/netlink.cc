#include "agent/netlink.h"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <optional>

#include "base/sys.h"

namespace bulkhead::agent {
namespace {

// The kernel's dumps come in parts of at most 32 KiB.
constexpr size_t kDatagram = 64U << 10U;
constexpr int kDumpTries = 16;

void Pad(std::string& bytes) { bytes.resize(NLMSG_ALIGN(bytes.size())); }

struct Part {
  nlmsghdr header;
  std::string_view body;
};

// Takes the first message off a datagram; nullopt at its end.
std::optional<Part> TakePart(std::string_view& datagram) {
  Part part{};
  if (datagram.size() < sizeof(part.header)) {
    return std::nullopt;
  }
  part.header = HeaderOf<nlmsghdr>(datagram);
  if (part.header.nlmsg_len < sizeof(part.header) || part.header.nlmsg_len > datagram.size()) {
    return std::nullopt;
  }
  part.body = datagram.substr(NLMSG_HDRLEN, part.header.nlmsg_len - NLMSG_HDRLEN);
  datagram.remove_prefix(std::min<size_t>(datagram.size(), NLMSG_ALIGN(part.header.nlmsg_len)));
  return part;
}

// What an acknowledgement says: success, or an errno and perhaps the kernel's own words.
Status ToStatus(const Part& part) {
  const int error = HeaderOf<nlmsgerr>(part.body).error;
  if (error == 0) {
    return {};
  }
  std::string words;
  if ((part.header.nlmsg_flags & NLM_F_ACK_TLVS) != 0) {
    words = AttributesAfter<nlmsgerr>(part.body).Text(NLMSGERR_ATTR_MSG);
  }
  return MakeErrno(-error, "{}", words.empty() ? "the kernel refuses" : words);
}

}  // namespace

void NetlinkMessage::Add(uint16_t type, std::string_view bytes) {
  Pad(body_);
  rtattr header{};
  header.rta_len = static_cast<uint16_t>(RTA_LENGTH(bytes.size()));
  header.rta_type = type;
  body_ += BytesOf(header);
  body_ += bytes;
}

size_t NetlinkMessage::BeginNest(uint16_t type) {
  Add(type, {});
  return body_.size() - sizeof(rtattr);
}

void NetlinkMessage::EndNest(size_t begin) {
  const auto length = static_cast<uint16_t>(body_.size() - begin);
  body_.replace(begin + offsetof(rtattr, rta_len), sizeof(length), BytesOf(length));
}

std::string NetlinkMessage::Encode(uint32_t sequence, uint16_t more_flags) const {
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

std::string_view NetlinkAttributes::Bytes(uint16_t type) const {
  const auto found = values_.find(type);
  return found == values_.end() ? std::string_view() : found->second;
}

std::string NetlinkAttributes::Text(uint16_t type) const {
  const std::string_view bytes = Bytes(type);
  return std::string(bytes.substr(0, bytes.find('\0')));
}

NetlinkSocket::NetlinkSocket(UniqueFd fd) : fd_(std::move(fd)), buffer_(kDatagram) {}

Result<NetlinkSocket> NetlinkSocket::Open(uint32_t groups) {
  UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  TRY(sys::CheckCall(fd.get(), "netlink socket"));
  // Reasons in words, without the request repeated before them.
  const int on = 1;
  for (const int option : {NETLINK_EXT_ACK, NETLINK_CAP_ACK}) {
    TRY(sys::CheckCall(::setsockopt(fd.get(), SOL_NETLINK, option, &on, sizeof(on)),
                       "netlink socket option {}", option));
  }
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = groups;
  TRY(sys::CheckCall(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)),
                     "bind netlink socket"));
  return NetlinkSocket(std::move(fd));
}

Status NetlinkSocket::Send(const NetlinkMessage& message, uint16_t more_flags) {
  return sys::WriteAll(fd_.get(), message.Encode(++sequence_, more_flags));
}

Result<std::string_view> NetlinkSocket::Receive(int flags) {
  for (;;) {
    sockaddr_nl from{};
    socklen_t length = sizeof(from);
    const ssize_t count = ::recvfrom(fd_.get(), buffer_.data(), buffer_.size(), flags | MSG_TRUNC,
                                     reinterpret_cast<sockaddr*>(&from), &length);
    if (count == -1 && sys::LastErrno() == EINTR) {
      continue;
    }
    TRY(sys::CheckCall(count, "receive from netlink"));
    if (from.nl_pid != 0) {
      continue;  // not the kernel: a container may send here, too
    }
    if (static_cast<size_t>(count) > buffer_.size()) {
      return MakeError(ErrorCode::kInternal, "a netlink message of {} bytes", count);
    }
    return std::string_view(buffer_.data(), static_cast<size_t>(count));
  }
}

Status NetlinkSocket::Request(const NetlinkMessage& message) {
  TRY(Send(message, NLM_F_ACK));
  for (;;) {
    std::string_view rest = TRY(Receive(0));
    while (const auto part = TakePart(rest)) {
      if (part->header.nlmsg_seq == sequence_ && part->header.nlmsg_type == NLMSG_ERROR) {
        return ToStatus(*part);
      }
    }
  }
}

Result<NetlinkSocket::DumpResult> NetlinkSocket::DumpOnce(const NetlinkMessage& message) {
  TRY(Send(message, NLM_F_DUMP));
  DumpResult out;
  for (;;) {
    std::string_view rest = TRY(Receive(0));
    while (const auto part = TakePart(rest)) {
      if (part->header.nlmsg_seq != sequence_) {
        continue;
      }
      out.torn = out.torn || (part->header.nlmsg_flags & NLM_F_DUMP_INTR) != 0;
      if (part->header.nlmsg_type == NLMSG_DONE) {
        return out;
      }
      if (part->header.nlmsg_type == NLMSG_ERROR) {
        TRY(ToStatus(*part));
        return out;
      }
      out.bodies.emplace_back(part->body);
    }
  }
}

Result<std::vector<std::string>> NetlinkSocket::Dump(const NetlinkMessage& message) {
  for (int i = 0; i < kDumpTries; ++i) {
    DumpResult result = TRY(DumpOnce(message));
    if (!result.torn) {
      return std::move(result.bodies);
    }
  }
  return MakeError(ErrorCode::kUnavailable, "the network does not stop changing");
}

Status NetlinkSocket::AwaitNews(std::chrono::milliseconds timeout) {
  if (!TRY(sys::PollOne(fd_.get(), POLLIN, timeout))) {
    return {};
  }
  for (;;) {
    const auto news = Receive(MSG_DONTWAIT);
    if (!news && news.error().errnum() == EAGAIN) {
      return {};
    }
    if (!news && news.error().errnum() != ENOBUFS) {  // ENOBUFS: more news than there is room for
      return tl::unexpected(news.error());
    }
  }
}

}  // namespace bulkhead::agent
