#include "base/bpf.h"

#include <sys/syscall.h>
#include <unistd.h>

#include "base/sys.h"

namespace bulkhead::bpf {
namespace {

// Nothing that is gpl_only is called, and the programs are under Bulkhead's own licence.
constexpr char kLicense[] = "Apache-2.0";

long Bpf(bpf_cmd command, bpf_attr& attributes) {
  return ::syscall(SYS_bpf, command, &attributes, sizeof(attributes));
}

Result<UniqueFd> BpfFd(bpf_cmd command, bpf_attr& attributes, const char* what) {
  UniqueFd fd(static_cast<int>(Bpf(command, attributes)));  // close-on-exec
  TRY(sys::CheckCall(fd.get(), "bpf: {}", what));
  return fd;
}

bool IsOpenJump(const bpf_insn& each) {
  const auto kind = BPF_CLASS(each.code);
  const auto operation = BPF_OP(each.code);
  return (kind == BPF_JMP || kind == BPF_JMP32) && operation != BPF_CALL && operation != BPF_EXIT &&
         each.off == 0;
}

}  // namespace

void AppendMap(std::vector<bpf_insn>& program, uint8_t to, int map) {
  program.push_back({BPF_LD | BPF_DW | BPF_IMM, to, BPF_PSEUDO_MAP_FD, 0, map});
  program.push_back({});
}

void AppendNumber(std::vector<bpf_insn>& program, uint8_t to, uint64_t value) {
  program.push_back({BPF_LD | BPF_DW | BPF_IMM, to, 0, 0, static_cast<int32_t>(value)});
  program.push_back({0, 0, 0, 0, static_cast<int32_t>(value >> 32U)});
}

void CloseJumps(std::vector<bpf_insn>& program) {
  for (size_t i = 0; i < program.size(); ++i) {
    if (IsOpenJump(program[i])) {
      program[i].off = static_cast<int16_t>(program.size() - i - 1);
    }
  }
}

Result<UniqueFd> CreateMap(bpf_map_type type, uint32_t key_size, uint32_t value_size,
                           uint32_t entries) {
  bpf_attr attributes{};
  attributes.map_type = type;
  attributes.key_size = key_size;
  attributes.value_size = value_size;
  attributes.max_entries = entries;
  return BpfFd(BPF_MAP_CREATE, attributes, "make a map");
}

Status UpdateMap(int map, const void* key, const void* value) {
  bpf_attr attributes{};
  attributes.map_fd = static_cast<uint32_t>(map);
  attributes.key = reinterpret_cast<uint64_t>(key);
  attributes.value = reinterpret_cast<uint64_t>(value);
  return sys::CheckCall(Bpf(BPF_MAP_UPDATE_ELEM, attributes), "bpf: set an element of a map");
}

Result<UniqueFd> LoadProgram(bpf_prog_type type, bpf_attach_type attach_type,
                             const std::vector<bpf_insn>& program) {
  bpf_attr attributes{};
  attributes.prog_type = type;
  attributes.expected_attach_type = attach_type;
  attributes.insns = reinterpret_cast<uint64_t>(program.data());
  attributes.insn_cnt = static_cast<uint32_t>(program.size());
  attributes.license = reinterpret_cast<uint64_t>(kLicense);
  return BpfFd(BPF_PROG_LOAD, attributes, "load a program");
}

Status Attach(int program, int target, bpf_attach_type type, uint32_t flags) {
  bpf_attr attributes{};
  attributes.target_fd = static_cast<uint32_t>(target);
  attributes.attach_bpf_fd = static_cast<uint32_t>(program);
  attributes.attach_type = type;
  attributes.attach_flags = flags;
  return sys::CheckCall(Bpf(BPF_PROG_ATTACH, attributes), "bpf: attach a program");
}

Result<UniqueFd> Link(int program, int target, bpf_attach_type type) {
  bpf_attr attributes{};
  attributes.link_create.prog_fd = static_cast<uint32_t>(program);
  attributes.link_create.target_fd = static_cast<uint32_t>(target);
  attributes.link_create.attach_type = type;
  return BpfFd(BPF_LINK_CREATE, attributes, "attach a program");
}

}  // namespace bulkhead::bpf
