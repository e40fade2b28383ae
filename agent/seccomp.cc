#include "agent/seccomp.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>
#include <set>
#include <string_view>

#include "base/sys.h"

namespace bulkhead::agent {
namespace {

constexpr size_t kMaxFilterBytes = 1U << 20U;

template <typename T>
struct Named {
  std::string_view name;
  T value;
};

constexpr std::array kArchitectures{
    Named<uint32_t>{"SCMP_ARCH_AARCH64", SCMP_ARCH_AARCH64},
    Named<uint32_t>{"SCMP_ARCH_ARM", SCMP_ARCH_ARM},
    Named<uint32_t>{"SCMP_ARCH_MIPS", SCMP_ARCH_MIPS},
    Named<uint32_t>{"SCMP_ARCH_MIPS64", SCMP_ARCH_MIPS64},
    Named<uint32_t>{"SCMP_ARCH_MIPS64N32", SCMP_ARCH_MIPS64N32},
    Named<uint32_t>{"SCMP_ARCH_MIPSEL", SCMP_ARCH_MIPSEL},
    Named<uint32_t>{"SCMP_ARCH_MIPSEL64", SCMP_ARCH_MIPSEL64},
    Named<uint32_t>{"SCMP_ARCH_MIPSEL64N32", SCMP_ARCH_MIPSEL64N32},
    Named<uint32_t>{"SCMP_ARCH_PARISC", SCMP_ARCH_PARISC},
    Named<uint32_t>{"SCMP_ARCH_PARISC64", SCMP_ARCH_PARISC64},
    Named<uint32_t>{"SCMP_ARCH_PPC", SCMP_ARCH_PPC},
    Named<uint32_t>{"SCMP_ARCH_PPC64", SCMP_ARCH_PPC64},
    Named<uint32_t>{"SCMP_ARCH_PPC64LE", SCMP_ARCH_PPC64LE},
    Named<uint32_t>{"SCMP_ARCH_RISCV64", SCMP_ARCH_RISCV64},
    Named<uint32_t>{"SCMP_ARCH_S390", SCMP_ARCH_S390},
    Named<uint32_t>{"SCMP_ARCH_S390X", SCMP_ARCH_S390X},
    Named<uint32_t>{"SCMP_ARCH_X32", SCMP_ARCH_X32},
    Named<uint32_t>{"SCMP_ARCH_X86", SCMP_ARCH_X86},
    Named<uint32_t>{"SCMP_ARCH_X86_64", SCMP_ARCH_X86_64},
};

constexpr std::array kOperators{
    Named<scmp_compare>{"SCMP_CMP_NE", SCMP_CMP_NE},
    Named<scmp_compare>{"SCMP_CMP_LT", SCMP_CMP_LT},
    Named<scmp_compare>{"SCMP_CMP_LE", SCMP_CMP_LE},
    Named<scmp_compare>{"SCMP_CMP_EQ", SCMP_CMP_EQ},
    Named<scmp_compare>{"SCMP_CMP_GE", SCMP_CMP_GE},
    Named<scmp_compare>{"SCMP_CMP_GT", SCMP_CMP_GT},
    Named<scmp_compare>{"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ},
};

constexpr std::array kFlags{
    Named<unsigned>{"SECCOMP_FILTER_FLAG_TSYNC", 0},               // the process has one thread
    Named<unsigned>{"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", 0},  // nobody is asked, so none waits
    Named<unsigned>{"SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG},
    Named<unsigned>{"SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW},
};

template <typename Table>
auto Find(const Table& table, std::string_view name, std::string_view what)
    -> Result<decltype(table[0].value)> {
  for (const auto& row : table) {
    if (row.name == name) {
      return row.value;
    }
  }
  return MakeError(ErrorCode::kInvalidArgument, "linux.seccomp: unknown {} \"{}\"", what, name);
}

Result<uint32_t> ParseAction(std::string_view name, std::optional<uint32_t> errno_ret) {
  const uint32_t code = errno_ret.value_or(EPERM) & 0xffffU;
  const std::array actions{
      Named<uint32_t>{"SCMP_ACT_KILL", SCMP_ACT_KILL_THREAD},
      Named<uint32_t>{"SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD},
      Named<uint32_t>{"SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS},
      Named<uint32_t>{"SCMP_ACT_TRAP", SCMP_ACT_TRAP},
      Named<uint32_t>{"SCMP_ACT_ERRNO", SCMP_ACT_ERRNO(code)},
      Named<uint32_t>{"SCMP_ACT_TRACE", SCMP_ACT_TRACE(code)},
      Named<uint32_t>{"SCMP_ACT_ALLOW", SCMP_ACT_ALLOW},
      Named<uint32_t>{"SCMP_ACT_LOG", SCMP_ACT_LOG},
  };
  if (name == "SCMP_ACT_NOTIFY") {
    return MakeError(ErrorCode::kUnimplemented, "linux.seccomp: SCMP_ACT_NOTIFY is not supported");
  }
  return Find(actions, name, "action");
}

using Filter = std::unique_ptr<void, void (*)(scmp_filter_ctx)>;

Status CheckSeccomp(int result, std::string_view what) {
  if (result < 0) {
    return MakeErrno(-result, "linux.seccomp: {}", what);
  }
  return {};
}

// Several conditions on one argument cannot all go in one rule: libseccomp wants one rule each,
// which makes them alternatives (runc does the same).
bool HasRepeatedIndex(const std::vector<oci::SeccompArg>& args) {
  std::set<uint32_t> seen;
  for (const auto& arg : args) {
    if (!seen.insert(arg.index).second) {
      return true;
    }
  }
  return false;
}

Status AddRule(scmp_filter_ctx filter, uint32_t action, const oci::SeccompRule& rule,
               const std::string& name) {
  const int number = ::seccomp_syscall_resolve_name(name.c_str());
  if (number == __NR_SCMP_ERROR) {
    return {};
  }
  std::vector<scmp_arg_cmp> conditions;
  for (const auto& arg : rule.args) {
    if (arg.index > 5) {
      return MakeError(ErrorCode::kInvalidArgument, "linux.seccomp: {}: argument {}", name,
                       arg.index);
    }
    conditions.push_back(
        {arg.index, TRY(Find(kOperators, arg.op, "operator")), arg.value, arg.value_two});
  }
  const auto add = [&](const scmp_arg_cmp* first, size_t count) {
    return CheckSeccomp(
        ::seccomp_rule_add_array(filter, action, number, static_cast<unsigned>(count), first),
        name);
  };
  if (!HasRepeatedIndex(rule.args)) {
    return add(conditions.data(), conditions.size());
  }
  for (const auto& condition : conditions) {
    TRY(add(&condition, 1));
  }
  return {};
}

Result<std::string> Export(scmp_filter_ctx filter) {
  const UniqueFd file = TRY(sys::MemFd("seccomp"));
  TRY(CheckSeccomp(::seccomp_export_bpf(filter, file.get()), "export"));
  TRY(sys::CheckCall(::lseek(file.get(), 0, SEEK_SET), "lseek"));
  return sys::ReadFd(file.get(), kMaxFilterBytes, "seccomp program");
}

}  // namespace

Result<SeccompProgram> CompileSeccomp(const oci::Seccomp& profile) {
  SeccompProgram program;
  for (const std::string& flag : profile.flags) {
    program.flags |= TRY(Find(kFlags, flag, "flag"));
  }
  const uint32_t default_action =
      TRY(ParseAction(profile.default_action, profile.default_errno_ret));
  const Filter filter(::seccomp_init(default_action), &::seccomp_release);
  if (filter == nullptr) {
    return MakeError(ErrorCode::kInternal, "linux.seccomp: seccomp_init failed");
  }
  for (const std::string& name : profile.architectures) {
    const uint32_t architecture = TRY(Find(kArchitectures, name, "architecture"));
    const int added = ::seccomp_arch_add(filter.get(), architecture);
    if (added == -EDOM) {
      return MakeError(ErrorCode::kInvalidArgument,
                       "linux.seccomp.architectures: {} has another byte order than the guest",
                       name);
    }
    if (added != -EEXIST) {
      TRY(CheckSeccomp(added, name));
    }
  }
  // A binary tree of comparisons: shorter paths for profiles of hundreds of calls.
  TRY(CheckSeccomp(::seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2), "optimise"));
  for (const oci::SeccompRule& rule : profile.rules) {
    const uint32_t action = TRY(ParseAction(rule.action, rule.errno_ret));
    if (action == default_action) {
      continue;  // libseccomp refuses a rule that says nothing
    }
    for (const std::string& name : rule.names) {
      TRY(AddRule(filter.get(), action, rule, name));
    }
  }
  program.filter = TRY(Export(filter.get()));
  return program;
}

Status LoadSeccomp(unsigned flags, std::string_view filter) {
  std::vector<sock_filter> instructions(filter.size() / sizeof(sock_filter));
  filter.copy(reinterpret_cast<char*>(instructions.data()),
              instructions.size() * sizeof(sock_filter));
  const sock_fprog program{static_cast<unsigned short>(instructions.size()), instructions.data()};
  return sys::CheckCall(::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program),
                        "load the seccomp filter");
}

}  // namespace bulkhead::agent
