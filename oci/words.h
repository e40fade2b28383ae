// Words of config.json that stand for numbers of the kernel, and its lists of CPUs.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace bulkhead::oci {

// SCHED_* and SCHED_FLAG_* for sched_setattr(2); IOPRIO_CLASS_* for ioprio_set(2); PER_*.
Result<uint32_t> SchedulerPolicy(std::string_view name);
Result<uint64_t> SchedulerFlag(std::string_view name);
Result<int> IoPriorityClass(std::string_view name);
Result<unsigned long> PersonalityDomain(std::string_view name);

// As runc: "0-3, 7"; at least one, and none of 1024 or more.
using CpuSet = std::bitset<1024>;
Result<CpuSet> ParseCpuList(std::string_view text);

// "2MB" of a huge page: a number, and KB, MB or GB.
Result<uint64_t> PageSizeBytes(std::string_view text);

// "net.ipv4.conf.all.forwarding" as "net/ipv4/conf/all/forwarding". As sysctl(8): when the first
// separator is a slash, slashes separate, and dots are part of a name.
Result<std::string> SysctlPath(std::string_view name);

// Every capability of the kernel, in the order of their numbers.
const std::vector<std::string>& AllCapabilities();

// What a seccomp profile may say; the numbers are libseccomp's, which only the guest's agent has.
inline constexpr std::array<std::string_view, 8> kSeccompActions{
    "SCMP_ACT_ALLOW",       "SCMP_ACT_ERRNO", "SCMP_ACT_KILL",  "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG",   "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"};
inline constexpr std::array<std::string_view, 7> kSeccompOperators{
    "SCMP_CMP_EQ", "SCMP_CMP_GE",        "SCMP_CMP_GT", "SCMP_CMP_LE",
    "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"};
// Those of another byte order cannot be in one filter with the guest's: libseccomp refuses them.
inline constexpr std::array<std::string_view, 19> kSeccompArchitectures{
    "SCMP_ARCH_AARCH64",   "SCMP_ARCH_ARM",      "SCMP_ARCH_MIPS",     "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32", "SCMP_ARCH_MIPSEL",   "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",    "SCMP_ARCH_PARISC64", "SCMP_ARCH_PPC",      "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",   "SCMP_ARCH_RISCV64",  "SCMP_ARCH_S390",     "SCMP_ARCH_S390X",
    "SCMP_ARCH_X32",       "SCMP_ARCH_X86",      "SCMP_ARCH_X86_64"};
inline constexpr std::array<std::string_view, 4> kSeccompFlags{
    "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"};

}  // namespace bulkhead::oci
