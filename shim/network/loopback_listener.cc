#include "shim/network/loopback_listener.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstddef>
#include <vector>

#include "base/bpf.h"
#include "base/sys.h"
#include "shim/network/enter_netns.h"

namespace bulkhead::shim {
namespace {

constexpr int kBacklog = 64;
// Kept across calls.
constexpr uint8_t kContext = BPF_REG_6;
constexpr uint8_t kSocket = BPF_REG_7;

int32_t Network(uint32_t word) { return static_cast<int32_t>(htonl(word)); }

// Of both families; of IPv4 alone where the host has no IPv6.
Result<UniqueFd> Listen() {
  constexpr int kFlags = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  constexpr int kOff = 0;
  UniqueFd socket(::socket(AF_INET6, kFlags, 0));
  if (!socket) {
    socket = UniqueFd(::socket(AF_INET, kFlags, 0));
  } else {
    TRY(sys::CheckCall(::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &kOff, sizeof(kOff)),
                       "IPV6_V6ONLY"));
  }
  TRY(sys::CheckCall(socket.get(), "socket"));
  // Without bind(2): at any port, which nobody needs to know.
  TRY(sys::CheckCall(::listen(socket.get(), kBacklog), "listen"));
  return socket;
}

// Connections to 127.0.0.0/8 and ::1 go to the socket in the map; all else where it would go
// without us, and so does what is for the engine's own name server at 127.0.0.11.
std::vector<bpf_insn> Redirect(int map) {
  using bpf::Jump;
  using bpf::Load32;
  constexpr int16_t kIp6At = offsetof(bpf_sk_lookup, local_ip6);
  // An address of the other family reads as zero.
  const std::vector<bpf_insn> unless_loopback6 = {
      Load32(BPF_REG_2, kContext, kIp6At),      Jump(BPF_JNE, BPF_REG_2, 0),
      Load32(BPF_REG_2, kContext, kIp6At + 4),  Jump(BPF_JNE, BPF_REG_2, 0),
      Load32(BPF_REG_2, kContext, kIp6At + 8),  Jump(BPF_JNE, BPF_REG_2, 0),
      Load32(BPF_REG_2, kContext, kIp6At + 12), Jump(BPF_JNE, BPF_REG_2, Network(1)),
  };
  std::vector<bpf_insn> program = {
      bpf::Move64(kContext, BPF_REG_1),
      Load32(BPF_REG_2, kContext, offsetof(bpf_sk_lookup, protocol)),
      Jump(BPF_JNE, BPF_REG_2, IPPROTO_TCP),
      Load32(BPF_REG_2, kContext, offsetof(bpf_sk_lookup, local_ip4)),
      Jump(BPF_JEQ, BPF_REG_2, Network(0x7f00000b)),
      bpf::Alu(BPF_AND, BPF_REG_2, Network(0xff000000)),
      Jump(BPF_JEQ, BPF_REG_2, Network(0x7f000000)),
  };
  program.back().off = static_cast<int16_t>(unless_loopback6.size());
  program.insert(program.end(), unless_loopback6.begin(), unless_loopback6.end());
  program.insert(program.end(),
                 {bpf::Store32(BPF_REG_10, -4, 0),  // the key: its only element
                  bpf::Move64(BPF_REG_2, BPF_REG_10), bpf::Alu64(BPF_ADD, BPF_REG_2, -4)});
  bpf::AppendMap(program, BPF_REG_1, map);
  program.insert(program.end(), {
                                    bpf::Call(BPF_FUNC_map_lookup_elem),
                                    Jump(BPF_JEQ, BPF_REG_0, 0),
                                    bpf::Move64(kSocket, BPF_REG_0),
                                    bpf::Move64(BPF_REG_1, kContext),
                                    bpf::Move64(BPF_REG_2, kSocket),
                                    bpf::Alu64(BPF_MOV, BPF_REG_3, 0),
                                    bpf::Call(BPF_FUNC_sk_assign),
                                    bpf::Move64(BPF_REG_1, kSocket),
                                    bpf::Call(BPF_FUNC_sk_release),
                                });
  bpf::CloseJumps(program);  // what is to be left alone jumps to here
  program.push_back(bpf::Alu(BPF_MOV, BPF_REG_0, SK_PASS));
  program.push_back(bpf::Exit());
  return program;
}

bool IsLoopback(const in6_addr& address) {
  return IN6_IS_ADDR_LOOPBACK(&address) ||
         (IN6_IS_ADDR_V4MAPPED(&address) && address.s6_addr[12] == 127);
}

// The port that was dialed; nullopt: not at loopback.
Result<std::optional<uint16_t>> DialedPort(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  TRY(sys::CheckCall(::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size),
                     "getsockname"));
  if (address.ss_family == AF_INET6) {
    const auto& ip6 = reinterpret_cast<const sockaddr_in6&>(address);
    return IsLoopback(ip6.sin6_addr) ? std::optional(ntohs(ip6.sin6_port)) : std::nullopt;
  }
  const auto& ip4 = reinterpret_cast<const sockaddr_in&>(address);
  return ntohl(ip4.sin_addr.s_addr) >> 24U == 127 ? std::optional(ntohs(ip4.sin_port))
                                                  : std::nullopt;
}

}  // namespace

Result<LoopbackListener> LoopbackListener::Open(int netns) {
  UniqueFd listener = TRY(InNetns(netns, Listen));
  const UniqueFd map =
      TRY(bpf::CreateMap(BPF_MAP_TYPE_SOCKMAP, sizeof(uint32_t), sizeof(uint64_t), 1));
  const uint32_t key = 0;
  const auto socket = static_cast<uint64_t>(listener.get());
  TRY(bpf::UpdateMap(map.get(), &key, &socket));
  const UniqueFd program =
      TRY(bpf::LoadProgram(BPF_PROG_TYPE_SK_LOOKUP, BPF_SK_LOOKUP, Redirect(map.get())));
  UniqueFd link = TRY(bpf::Link(program.get(), netns, BPF_SK_LOOKUP));
  return LoopbackListener(std::move(listener), std::move(link));
}

Result<std::optional<LoopbackListener::Connection>> LoopbackListener::Accept() {
  UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!socket && (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR)) {
    return std::nullopt;
  }
  TRY(sys::CheckCall(socket.get(), "accept"));
  const auto port = TRY(DialedPort(socket.get()));
  if (!port) {
    return std::nullopt;
  }
  return Connection{std::move(socket), *port};
}

}  // namespace bulkhead::shim
