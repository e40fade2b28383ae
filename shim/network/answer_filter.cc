#include "shim/network/answer_filter.h"

#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>

#include <cstddef>
#include <vector>

#include "base/bpf.h"

namespace bulkhead::shim {
namespace {

using bpf::Alu64;
using bpf::Jump;
using bpf::Load16;
using bpf::Load8;
using bpf::Move64;

using Program = std::vector<bpf_insn>;

constexpr uint8_t kContext = BPF_REG_6;   // kept across calls
constexpr uint8_t kProtocol = BPF_REG_7;  // of the IP packet; then the state of its socket
constexpr uint16_t kNamePort = 53;
// On the stack: an IP header without options, then the ports, which stand behind the addresses as
// in bpf_sock_tuple.
constexpr int16_t kHeaderAt = -24;
constexpr int16_t kTupleAt = -12;
constexpr int16_t kTupleSize = 12;

void Append(Program& program, const Program& more) {
  program.insert(program.end(), more.begin(), more.end());
}

// Jumps to the next filter are left open throughout.
Program LoadBytes(int32_t offset, int16_t to, int32_t size) {
  return {Move64(BPF_REG_1, kContext),     Alu64(BPF_MOV, BPF_REG_2, offset),
          Move64(BPF_REG_3, BPF_REG_10),   Alu64(BPF_ADD, BPF_REG_3, to),
          Alu64(BPF_MOV, BPF_REG_4, size), bpf::Call(BPF_FUNC_skb_load_bytes),
          Jump(BPF_JNE, BPF_REG_0, 0)};
}

Program Pass() { return {Alu64(BPF_MOV, BPF_REG_0, TC_ACT_OK), bpf::Exit()}; }

// With the arguments of the lookup in place.
Program PassForUdpSocket() {
  Program program{bpf::Call(BPF_FUNC_sk_lookup_udp), Jump(BPF_JEQ, BPF_REG_0, 0),
                  Move64(BPF_REG_1, BPF_REG_0), bpf::Call(BPF_FUNC_sk_release)};
  Append(program, Pass());
  return program;
}

// Not for a listener: nobody is let in who was not asked.
Program PassForTcpSocket() {
  Program program{bpf::Call(BPF_FUNC_skc_lookup_tcp),
                  Jump(BPF_JEQ, BPF_REG_0, 0),
                  bpf::Load32(kProtocol, BPF_REG_0, offsetof(bpf_sock, state)),
                  Move64(BPF_REG_1, BPF_REG_0),
                  bpf::Call(BPF_FUNC_sk_release),
                  Jump(BPF_JEQ, kProtocol, BPF_TCP_LISTEN)};
  Append(program, Pass());
  return program;
}

Program PassAnswers() {
  Program program{Jump(BPF_JNE, BPF_REG_2, htons(ETH_P_IP))};
  Append(program, LoadBytes(ETH_HLEN, kHeaderAt, kTupleAt + kTupleSize - kHeaderAt));
  Append(
      program,
      {Load8(BPF_REG_2, BPF_REG_10, kHeaderAt),  // version, length
       Jump(BPF_JNE, BPF_REG_2, 0x45), Load16(BPF_REG_2, BPF_REG_10, kHeaderAt + 6),  // fragments
       bpf::Alu(BPF_AND, BPF_REG_2, htons(0x3fff)), Jump(BPF_JNE, BPF_REG_2, 0),
       Load16(BPF_REG_2, BPF_REG_10, kTupleAt + 8), Jump(BPF_JNE, BPF_REG_2, htons(kNamePort)),
       Load8(kProtocol, BPF_REG_10, kHeaderAt + 9), Move64(BPF_REG_1, kContext),
       Move64(BPF_REG_2, BPF_REG_10), Alu64(BPF_ADD, BPF_REG_2, kTupleAt),
       Alu64(BPF_MOV, BPF_REG_3, kTupleSize), Alu64(BPF_MOV, BPF_REG_4, BPF_F_CURRENT_NETNS),
       Alu64(BPF_MOV, BPF_REG_5, 0)});
  const Program udp = PassForUdpSocket();
  program.push_back(Jump(BPF_JNE, kProtocol, IPPROTO_UDP));
  program.back().off = static_cast<int16_t>(udp.size());
  Append(program, udp);
  program.push_back(Jump(BPF_JNE, kProtocol, IPPROTO_TCP));
  Append(program, PassForTcpSocket());
  return program;
}

Program ShareArpReplies(uint32_t tap) {
  constexpr int32_t kOperationAt = ETH_HLEN + offsetof(arphdr, ar_op);
  Program program = LoadBytes(kOperationAt, -2, 2);
  Append(program,
         {Load16(BPF_REG_2, BPF_REG_10, -2), Jump(BPF_JNE, BPF_REG_2, htons(ARPOP_REPLY)),
          Move64(BPF_REG_1, kContext), Alu64(BPF_MOV, BPF_REG_2, static_cast<int32_t>(tap)),
          Alu64(BPF_MOV, BPF_REG_3, 0), bpf::Call(BPF_FUNC_clone_redirect)});
  Append(program, Pass());
  return program;
}

}  // namespace

Result<UniqueFd> LoadAnswerFilter(uint32_t tap) {
  const Program answers = PassAnswers();
  Program program{Move64(kContext, BPF_REG_1),
                  bpf::Load32(BPF_REG_2, BPF_REG_1, offsetof(__sk_buff, protocol)),
                  Jump(BPF_JEQ, BPF_REG_2, htons(ETH_P_ARP))};
  program.back().off = static_cast<int16_t>(answers.size());
  Append(program, answers);
  Append(program, ShareArpReplies(tap));
  bpf::CloseJumps(program);
  Append(program, {Alu64(BPF_MOV, BPF_REG_0, TC_ACT_UNSPEC), bpf::Exit()});
  return bpf::LoadProgram(BPF_PROG_TYPE_SCHED_CLS, {}, program);
}

}  // namespace bulkhead::shim
