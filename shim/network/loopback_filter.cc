#include "shim/network/loopback_filter.h"

#include <arpa/inet.h>

#include <array>
#include <cstddef>

#include "base/bpf.h"
#include "base/sys.h"

namespace bulkhead::shim {
namespace {

using Program = std::vector<bpf_insn>;

constexpr uint8_t kContext = BPF_REG_1;
constexpr uint8_t kIp = BPF_REG_2;    // the address's last 32 bits, as on the wire
constexpr uint8_t kWord = BPF_REG_3;  // others of its words
constexpr uint8_t kPort = BPF_REG_4;
constexpr uint8_t kProtocol = BPF_REG_5;

int32_t Network(uint32_t word) { return static_cast<int32_t>(htonl(word)); }

bpf_insn Skip(bpf_insn jump, size_t instructions) {
  jump.off = static_cast<int16_t>(instructions);
  return jump;
}

void Append(Program& program, const Program& more) {
  program.insert(program.end(), more.begin(), more.end());
}

// In what follows a jump without a place of its own lets the call through.

void AppendRefusal(Program& program) {
  Append(program, {bpf::Alu(BPF_MOV, BPF_REG_0, 0), bpf::Exit()});
}

// The address is one of the host's loopback: refused, but for the exceptions.
Program Loopback(const std::vector<int32_t>& name_servers, bool udp_answers) {
  Program program;
  for (const int32_t server : name_servers) {
    Append(program,
           {Skip(bpf::Jump32(BPF_JNE, kIp, server), 1), bpf::Jump32(BPF_JEQ, kPort, htons(53))});
  }
  if (udp_answers) {
    Append(program, {Skip(bpf::Jump32(BPF_JNE, kProtocol, IPPROTO_UDP), 1),
                     bpf::Jump32(BPF_JSET, kPort, htons(0x8000))});
  }
  AppendRefusal(program);
  return program;
}

// 127.0.0.0/8, and 0.0.0.0, which means this host.
Program Ip4Checks(const std::vector<int32_t>& name_servers, bool udp_answers) {
  Program program{bpf::Move(kWord, kIp), bpf::Alu(BPF_AND, kWord, Network(0xff000000)),
                  Skip(bpf::Jump32(BPF_JEQ, kWord, Network(0x7f000000)), 1),
                  bpf::Jump32(BPF_JNE, kWord, 0)};
  Append(program, Loopback(name_servers, udp_answers));
  return program;
}

bpf_insn LoadWord(uint8_t to, size_t offset) {
  return bpf::Load32(to, kContext, static_cast<int16_t>(offset));
}

Program MakeProgram(bool ip6, const LoopbackFilter::Exceptions& exceptions) {
  std::vector<int32_t> servers4;
  std::vector<int32_t> servers6;  // ::1 is the only one
  for (const std::string& text : exceptions.name_servers) {
    in_addr ip4{};
    if (::inet_pton(AF_INET, text.c_str(), &ip4) == 1) {
      servers4.push_back(static_cast<int32_t>(ip4.s_addr));
    } else if (text == "::1") {
      servers6.push_back(Network(1));
    }
  }
  const Program ip4 = Ip4Checks(servers4, exceptions.udp_answers);
  Program program{LoadWord(kPort, offsetof(bpf_sock_addr, user_port)),
                  LoadWord(kProtocol, offsetof(bpf_sock_addr, protocol))};
  if (!ip6) {
    program.push_back(LoadWord(kIp, offsetof(bpf_sock_addr, user_ip4)));
    Append(program, ip4);
  } else {
    constexpr size_t kIp6 = offsetof(bpf_sock_addr, user_ip6);
    Append(program,
           {LoadWord(kWord, kIp6), bpf::Jump32(BPF_JNE, kWord, 0), LoadWord(kWord, kIp6 + 4),
            bpf::Jump32(BPF_JNE, kWord, 0), LoadWord(kIp, kIp6 + 12), LoadWord(kWord, kIp6 + 8),
            Skip(bpf::Jump32(BPF_JEQ, kWord, 0), ip4.size() + 1),
            bpf::Jump32(BPF_JNE, kWord, Network(0xffff))});  // ::ffff:127.0.0.1
    Append(program, ip4);
    Append(program, {Skip(bpf::Jump32(BPF_JEQ, kIp, 0), 1),  // ::, which means this host
                     bpf::Jump32(BPF_JNE, kIp, Network(1))});
    Append(program, Loopback(servers6, exceptions.udp_answers));
  }
  bpf::CloseJumps(program);
  Append(program, {bpf::Alu(BPF_MOV, BPF_REG_0, 1), bpf::Exit()});
  return program;
}

struct Hook {
  bpf_attach_type type;
  bool ip6;
};
constexpr std::array kHooks{
    Hook{BPF_CGROUP_INET4_CONNECT, false}, Hook{BPF_CGROUP_INET6_CONNECT, true},
    Hook{BPF_CGROUP_UDP4_SENDMSG, false}, Hook{BPF_CGROUP_UDP6_SENDMSG, true}};

}  // namespace

Result<LoopbackFilter> LoopbackFilter::Create(const Exceptions& exceptions) {
  LoopbackFilter filter(TRY(FilterGroup::Make()));
  for (const Hook& hook : kHooks) {
    const UniqueFd program = TRY(bpf::LoadProgram(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, hook.type,
                                                  MakeProgram(hook.ip6, exceptions)));
    TRY(bpf::Attach(program.get(), filter.group(), hook.type, BPF_F_ALLOW_MULTI));
  }
  return filter;
}

}  // namespace bulkhead::shim
