// BPF programs written by hand, for what the kernel offers in no other way. Needs CAP_BPF and what
// the program's type needs.
#pragma once

#include <linux/bpf.h>

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead::bpf {

// --- instructions
inline bpf_insn Load32(uint8_t to, uint8_t from, int16_t offset) {
  return {BPF_LDX | BPF_MEM | BPF_W, to, from, offset, 0};
}
inline bpf_insn Load16(uint8_t to, uint8_t from, int16_t offset) {
  return {BPF_LDX | BPF_MEM | BPF_H, to, from, offset, 0};
}
inline bpf_insn Load8(uint8_t to, uint8_t from, int16_t offset) {
  return {BPF_LDX | BPF_MEM | BPF_B, to, from, offset, 0};
}
inline bpf_insn Store32(uint8_t to, int16_t offset, int32_t value) {
  return {BPF_ST | BPF_MEM | BPF_W, to, 0, offset, value};
}
// `operation`: BPF_ADD, BPF_AND, BPF_MOV ...; on the low 32 bits.
inline bpf_insn Alu(uint8_t operation, uint8_t to, int32_t value) {
  return {static_cast<uint8_t>(BPF_ALU | operation | BPF_K), to, 0, 0, value};
}
inline bpf_insn Alu64(uint8_t operation, uint8_t to, int32_t value) {
  return {static_cast<uint8_t>(BPF_ALU64 | operation | BPF_K), to, 0, 0, value};
}
inline bpf_insn Move(uint8_t to, uint8_t from) {
  return {BPF_ALU | BPF_MOV | BPF_X, to, from, 0, 0};
}
// For pointers.
inline bpf_insn Move64(uint8_t to, uint8_t from) {
  return {BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0};
}
// `operation`: BPF_JEQ, BPF_JNE ...; `off` is for the caller to fill in.
inline bpf_insn Jump(uint8_t operation, uint8_t what, int32_t value) {
  return {static_cast<uint8_t>(BPF_JMP | operation | BPF_K), what, 0, 0, value};
}
// On the low 32 bits, which is what Load32 leaves: a Jump compares with a value whose sign is
// spread.
inline bpf_insn Jump32(uint8_t operation, uint8_t what, int32_t value) {
  return {static_cast<uint8_t>(BPF_JMP32 | operation | BPF_K), what, 0, 0, value};
}
inline bpf_insn JumpRegister(uint8_t operation, uint8_t what, uint8_t value) {
  return {static_cast<uint8_t>(BPF_JMP | operation | BPF_X), what, value, 0, 0};
}
inline bpf_insn Store32Register(uint8_t to, int16_t offset, uint8_t from) {
  return {BPF_STX | BPF_MEM | BPF_W, to, from, offset, 0};
}
// A helper of the kernel: BPF_FUNC_*.
inline bpf_insn Call(int32_t function) { return {BPF_JMP | BPF_CALL, 0, 0, 0, function}; }
inline bpf_insn Exit() { return {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}; }
// Two instructions: the address of a map.
void AppendMap(std::vector<bpf_insn>& program, uint8_t to, int map);
// The same: a number.
void AppendNumber(std::vector<bpf_insn>& program, uint8_t to, uint64_t value);
// Jumps whose `off` was not filled in lead to what is appended next.
void CloseJumps(std::vector<bpf_insn>& program);

// --- bpf(2)
Result<UniqueFd> CreateMap(bpf_map_type type, uint32_t key_size, uint32_t value_size,
                           uint32_t entries);
// `key` and `value` are of the sizes that the map was made with.
Status UpdateMap(int map, const void* key, const void* value);
Result<UniqueFd> LoadProgram(bpf_prog_type type, bpf_attach_type attach_type,
                             const std::vector<bpf_insn>& program);
// Stays for as long as what `target` is.
Status Attach(int program, int target, bpf_attach_type type, uint32_t flags);
// Stays for as long as the fd that comes back.
Result<UniqueFd> Link(int program, int target, bpf_attach_type type);

}  // namespace bulkhead::bpf
