#include "agent/devices_bpf.h"

#include <gtest/gtest.h>

#include <array>

namespace bulkhead::agent {
namespace {

constexpr uint32_t kRead = BPF_DEVCG_ACC_READ;
constexpr uint32_t kWrite = BPF_DEVCG_ACC_WRITE;
constexpr uint32_t kMknod = BPF_DEVCG_ACC_MKNOD;

// As much of a BPF machine as the generated programs need.
int Interpret(const std::vector<bpf_insn>& program, bpf_cgroup_dev_ctx context) {
  std::array<uint64_t, 11> r{};
  for (size_t pc = 0; pc < program.size(); ++pc) {
    const bpf_insn& i = program[pc];
    const auto imm = static_cast<uint32_t>(i.imm);
    switch (i.code) {
      case BPF_LDX | BPF_MEM | BPF_W:
        r[i.dst_reg] = i.off == 0   ? context.access_type
                       : i.off == 4 ? context.major
                                    : context.minor;
        break;
      case BPF_ALU | BPF_AND | BPF_K:
        r[i.dst_reg] = static_cast<uint32_t>(r[i.dst_reg]) & imm;
        break;
      case BPF_ALU | BPF_RSH | BPF_K:
        r[i.dst_reg] = static_cast<uint32_t>(r[i.dst_reg]) >> imm;
        break;
      case BPF_ALU | BPF_MOV | BPF_K:
        r[i.dst_reg] = imm;
        break;
      case BPF_ALU | BPF_MOV | BPF_X:
        r[i.dst_reg] = static_cast<uint32_t>(r[i.src_reg]);
        break;
      case BPF_JMP | BPF_JNE | BPF_K:
        pc += r[i.dst_reg] != imm ? static_cast<size_t>(i.off) : 0;
        break;
      case BPF_JMP | BPF_JEQ | BPF_K:
        pc += r[i.dst_reg] == imm ? static_cast<size_t>(i.off) : 0;
        break;
      case BPF_JMP | BPF_EXIT:
        return static_cast<int>(r[0]);
      default:
        ADD_FAILURE() << "instruction " << int{i.code};
        return -1;
    }
  }
  return -1;
}

class Policy {
 public:
  explicit Policy(const std::vector<oci::DeviceRule>& rules)
      : program_(CompileDevicePolicy(*DevicePolicy::FromRules(rules))) {}
  bool Allows(char type, uint32_t major, uint32_t minor, uint32_t access) const {
    const uint32_t kind = type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR;
    return Interpret(program_, {access << 16U | kind, major, minor}) == 1;
  }

 private:
  std::vector<bpf_insn> program_;
};

TEST(DevicePolicy, StandardDevicesOnly) {
  const Policy policy({{false, "a", {}, {}, "rwm"}});
  EXPECT_TRUE(policy.Allows('c', 1, 3, kRead | kWrite));
  EXPECT_TRUE(policy.Allows('c', 136, 77, kRead | kWrite));
  EXPECT_FALSE(policy.Allows('c', 1, 11, kRead));
  EXPECT_TRUE(policy.Allows('c', 1, 11, kMknod));
  EXPECT_TRUE(policy.Allows('b', 8, 0, kMknod));
  EXPECT_FALSE(policy.Allows('b', 8, 0, kRead));
  EXPECT_FALSE(policy.Allows('b', 1, 3, kRead));
}

TEST(DevicePolicy, RulesInOrder) {
  const Policy policy({{false, "a", {}, {}, "rwm"},
                       {true, "b", 8, 0, "r"},
                       {true, "b", 8, 1, "rw"},
                       {true, "c", 10, {}, "rwm"},
                       {false, "b", 8, 1, "w"}});
  EXPECT_TRUE(policy.Allows('b', 8, 0, kRead));
  EXPECT_FALSE(policy.Allows('b', 8, 0, kRead | kWrite));
  EXPECT_TRUE(policy.Allows('b', 8, 1, kRead));
  EXPECT_FALSE(policy.Allows('b', 8, 1, kWrite));
  EXPECT_TRUE(policy.Allows('c', 10, 200, kRead | kWrite | kMknod));
}

TEST(DevicePolicy, AllowAllButSome) {
  const Policy policy({{true, "a", {}, {}, "rwm"}, {false, "b", 8, {}, "w"}});
  EXPECT_TRUE(policy.Allows('b', 8, 5, kRead));
  EXPECT_FALSE(policy.Allows('b', 8, 5, kRead | kWrite));
  EXPECT_TRUE(policy.Allows('b', 9, 5, kRead | kWrite));
}

TEST(DevicePolicy, RefusesAHoleInAWiderRule) {
  EXPECT_FALSE(DevicePolicy::FromRules({{true, "c", 10, {}, "rwm"}, {false, "c", 10, 200, "rwm"}}));
}

}  // namespace
}  // namespace bulkhead::agent
