#include "agent/devices_bpf.h"

#include <algorithm>
#include <array>
#include <cstddef>

#include "base/bpf.h"

namespace bulkhead::agent {
namespace {

constexpr uint32_t kAllAccess = BPF_DEVCG_ACC_MKNOD | BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE;
constexpr size_t kMaxExceptions = 512;  // the verifier takes 4096 instructions

uint32_t ParseAccess(const std::string& access) {
  uint32_t bits = 0;
  for (const char letter : access) {
    bits |= letter == 'r'   ? BPF_DEVCG_ACC_READ
            : letter == 'w' ? BPF_DEVCG_ACC_WRITE
                            : BPF_DEVCG_ACC_MKNOD;
  }
  return bits;
}

bool SamePlace(const DevicePolicy::Exception& a, const DevicePolicy::Exception& b) {
  return a.type == b.type && a.major == b.major && a.minor == b.minor;
}

bool Overlaps(const DevicePolicy::Exception& a, const DevicePolicy::Exception& b) {
  const auto match = [](int64_t x, int64_t y) { return x < 0 || y < 0 || x == y; };
  return a.type == b.type && match(a.major, b.major) && match(a.minor, b.minor) &&
         (a.access & b.access) != 0;
}

Status Apply(DevicePolicy& policy, bool allow, const DevicePolicy::Exception& rule) {
  auto& list = policy.exceptions;
  const auto same = std::find_if(list.begin(), list.end(),
                                 [&](const auto& entry) { return SamePlace(entry, rule); });
  if (allow != policy.allow_by_default) {
    if (same != list.end()) {
      same->access |= rule.access;
    } else {
      list.push_back(rule);
    }
    return {};
  }
  if (same != list.end()) {
    same->access &= ~rule.access;
  }
  for (const auto& entry : list) {
    // A hole in a wider exception cannot be told apart by it; runc refuses it, too.
    if (Overlaps(entry, rule) && (rule.major >= 0 || rule.minor >= 0) && !allow) {
      return MakeError(ErrorCode::kInvalidArgument,
                       "linux.resources.devices: cannot deny part of what a wider rule allows");
    }
  }
  std::erase_if(list, [](const auto& entry) { return entry.access == 0; });
  return {};
}

using bpf::Alu;
using bpf::Exit;
using bpf::Jump;
using bpf::Load32;
using bpf::Move;

constexpr uint8_t kType = BPF_REG_2;
constexpr uint8_t kAccess = BPF_REG_3;
constexpr uint8_t kMajor = BPF_REG_4;
constexpr uint8_t kMinor = BPF_REG_5;

// if it matches: return the contrary of the default; else go on behind the block.
void AppendException(std::vector<bpf_insn>& program, const DevicePolicy::Exception& entry,
                     bool allow) {
  std::vector<bpf_insn> block;
  block.push_back(
      Jump(BPF_JNE, kType, entry.type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR));
  if (entry.access != kAllAccess || !allow) {
    block.push_back(Move(BPF_REG_1, kAccess));
    // Allowed when nothing else is asked for; denied when anything of it is.
    const uint32_t mask = allow ? ~entry.access & kAllAccess : entry.access;
    block.push_back(Alu(BPF_AND, BPF_REG_1, static_cast<int32_t>(mask)));
    block.push_back(Jump(allow ? BPF_JNE : BPF_JEQ, BPF_REG_1, 0));
  }
  if (entry.major >= 0) {
    block.push_back(Jump(BPF_JNE, kMajor, static_cast<int32_t>(entry.major)));
  }
  if (entry.minor >= 0) {
    block.push_back(Jump(BPF_JNE, kMinor, static_cast<int32_t>(entry.minor)));
  }
  block.push_back(Alu(BPF_MOV, BPF_REG_0, allow ? 1 : 0));
  block.push_back(Exit());
  for (size_t i = 0; i < block.size(); ++i) {
    if (BPF_CLASS(block[i].code) == BPF_JMP && BPF_OP(block[i].code) != BPF_EXIT) {
      block[i].off = static_cast<int16_t>(block.size() - i - 1);
    }
  }
  program.insert(program.end(), block.begin(), block.end());
}

}  // namespace

Result<DevicePolicy> DevicePolicy::FromRules(const std::vector<oci::DeviceRule>& rules) {
  DevicePolicy policy;
  for (const oci::DeviceRule& rule : rules) {
    if (rule.type == "a") {
      policy = {rule.allow, {}};
      continue;
    }
    const Exception entry{rule.type[0], rule.major.value_or(-1), rule.minor.value_or(-1),
                          ParseAccess(rule.access)};
    if (entry.major > INT32_MAX || entry.minor > INT32_MAX) {
      return MakeError(ErrorCode::kInvalidArgument, "linux.resources.devices: number too large");
    }
    TRY(Apply(policy, rule.allow, entry));
  }
  // null, zero, full, random, urandom, tty, ptmx, pts; any node may be made.
  constexpr std::array kStandard{
      Exception{'c', -1, -1, BPF_DEVCG_ACC_MKNOD},
      Exception{'b', -1, -1, BPF_DEVCG_ACC_MKNOD},
      Exception{'c', 1, 3, kAllAccess},
      Exception{'c', 1, 5, kAllAccess},
      Exception{'c', 1, 7, kAllAccess},
      Exception{'c', 1, 8, kAllAccess},
      Exception{'c', 1, 9, kAllAccess},
      Exception{'c', 5, 0, kAllAccess},
      Exception{'c', 5, 2, kAllAccess},
      Exception{'c', 136, -1, kAllAccess},
  };
  for (const Exception& entry : kStandard) {
    TRY(Apply(policy, true, entry));
  }
  if (policy.exceptions.size() > kMaxExceptions) {
    return MakeError(ErrorCode::kInvalidArgument, "linux.resources.devices: more than {} rules",
                     kMaxExceptions);
  }
  return policy;
}

std::vector<bpf_insn> CompileDevicePolicy(const DevicePolicy& policy) {
  std::vector<bpf_insn> program{
      Load32(kType, BPF_REG_1, offsetof(bpf_cgroup_dev_ctx, access_type)),
      Move(kAccess, kType),
      Alu(BPF_AND, kType, 0xffff),
      Alu(BPF_RSH, kAccess, 16),
      Load32(kMajor, BPF_REG_1, offsetof(bpf_cgroup_dev_ctx, major)),
      Load32(kMinor, BPF_REG_1, offsetof(bpf_cgroup_dev_ctx, minor)),
  };
  for (const auto& entry : policy.exceptions) {
    AppendException(program, entry, !policy.allow_by_default);
  }
  program.push_back(Alu(BPF_MOV, BPF_REG_0, policy.allow_by_default ? 1 : 0));
  program.push_back(Exit());
  return program;
}

Status AttachDevicePolicy(int cgroup, const DevicePolicy& policy) {
  const std::vector<bpf_insn> program = CompileDevicePolicy(policy);
  const UniqueFd loaded = TRY_AS(
      bpf::LoadProgram(BPF_PROG_TYPE_CGROUP_DEVICE, BPF_CGROUP_DEVICE, program), "device filter");
  return bpf::Attach(loaded.get(), cgroup, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI);
}

}  // namespace bulkhead::agent
