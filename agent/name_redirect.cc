#include "agent/name_redirect.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cstddef>

#include "base/bpf.h"
#include "base/sys.h"

namespace bulkhead::agent {
namespace {

constexpr uint8_t kContext = BPF_REG_6;  // kept across calls

// Where the kernel is about to use an address that a process named, or to tell it one.
struct Hook {
  bpf_attach_type type;
  bool ip6;
  bool tells;
};
// sendmsg of an IPv6 socket to ::ffff:127.0.0.11 is IPv4's.
constexpr std::array kHooks{
    Hook{BPF_CGROUP_INET4_CONNECT, false, false},   Hook{BPF_CGROUP_INET6_CONNECT, true, false},
    Hook{BPF_CGROUP_UDP4_SENDMSG, false, false},    Hook{BPF_CGROUP_UDP4_RECVMSG, false, true},
    Hook{BPF_CGROUP_UDP6_RECVMSG, true, true},      Hook{BPF_CGROUP_INET4_GETPEERNAME, false, true},
    Hook{BPF_CGROUP_INET6_GETPEERNAME, true, true},
};

int32_t Network(uint32_t word) { return static_cast<int32_t>(htonl(word)); }

// Goes on if the 32 bits at `offset` of the context are `value`; else jumps to the end.
void AppendCheck(std::vector<bpf_insn>& program, size_t offset, int32_t value) {
  program.push_back(bpf::Load32(BPF_REG_2, kContext, static_cast<int16_t>(offset)));
  program.push_back(bpf::Jump32(BPF_JNE, BPF_REG_2, value));
}

std::vector<bpf_insn> Rewrite(const Hook& hook, uint16_t port, uint64_t netns) {
  const uint16_t from = hook.tells ? port : kNameServerPort;
  const uint16_t to = hook.tells ? kNameServerPort : port;
  std::vector<bpf_insn> program{bpf::Move64(kContext, BPF_REG_1)};
  if (hook.ip6) {
    constexpr size_t kIp6At = offsetof(bpf_sock_addr, user_ip6);
    AppendCheck(program, kIp6At, 0);
    AppendCheck(program, kIp6At + 4, 0);
    AppendCheck(program, kIp6At + 8, Network(0xffff));
    AppendCheck(program, kIp6At + 12, Network(kNameServerAddress));
  } else {
    AppendCheck(program, offsetof(bpf_sock_addr, user_ip4), Network(kNameServerAddress));
  }
  AppendCheck(program, offsetof(bpf_sock_addr, user_port), htons(from));
  program.push_back(bpf::Move64(BPF_REG_1, kContext));
  program.push_back(bpf::Call(BPF_FUNC_get_netns_cookie));
  bpf::AppendNumber(program, BPF_REG_2, netns);
  program.push_back(bpf::JumpRegister(BPF_JNE, BPF_REG_0, BPF_REG_2));
  program.push_back(bpf::Alu(BPF_MOV, BPF_REG_2, htons(to)));
  program.push_back(bpf::Store32Register(kContext, offsetof(bpf_sock_addr, user_port), BPF_REG_2));
  bpf::CloseJumps(program);
  program.push_back(bpf::Alu(BPF_MOV, BPF_REG_0, 1));  // go on
  program.push_back(bpf::Exit());
  return program;
}

}  // namespace

Result<NameRedirect> NameRedirect::Open(const std::string& cgroup, int server) {
  sockaddr_in address{};
  socklen_t size = sizeof(address);
  TRY(sys::CheckCall(::getsockname(server, reinterpret_cast<sockaddr*>(&address), &size),
                     "getsockname"));
  uint64_t netns = 0;
  size = sizeof(netns);
  TRY(sys::CheckCall(::getsockopt(server, SOL_SOCKET, SO_NETNS_COOKIE, &netns, &size),
                     "SO_NETNS_COOKIE"));
  const UniqueFd target = TRY(sys::Open(cgroup, O_RDONLY | O_DIRECTORY));
  std::vector<UniqueFd> links;
  for (const Hook& hook : kHooks) {
    const UniqueFd program = TRY_AS(bpf::LoadProgram(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, hook.type,
                                                     Rewrite(hook, ntohs(address.sin_port), netns)),
                                    "redirection of names (hook {})", static_cast<int>(hook.type));
    links.push_back(TRY(bpf::Link(program.get(), target.get(), hook.type)));
  }
  return NameRedirect(std::move(links));
}

}  // namespace bulkhead::agent
