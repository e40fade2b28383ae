#include "agent/scheduling.h"

#include <sched.h>
#include <sys/personality.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/sys.h"
#include "oci/words.h"

namespace bulkhead::agent {
namespace {

// struct sched_attr of the kernel, in its first size: <linux/sched/types.h> and <sched.h> exclude
// each other.
struct SchedAttr {
  uint32_t size = sizeof(SchedAttr);
  uint32_t policy = 0;
  uint64_t flags = 0;
  int32_t nice = 0;
  uint32_t priority = 0;
  uint64_t runtime = 0;
  uint64_t deadline = 0;
  uint64_t period = 0;
};
static_assert(sizeof(SchedAttr) == 48);

constexpr int kIoprioWhoProcess = 1;
constexpr int kIoprioClassShift = 13;

}  // namespace

Status SetScheduler(const oci::Scheduler& scheduler) {
  SchedAttr attributes;
  attributes.policy = TRY(oci::SchedulerPolicy(scheduler.policy));
  for (const std::string& flag : scheduler.flags) {
    attributes.flags |= TRY(oci::SchedulerFlag(flag));
  }
  attributes.nice = scheduler.nice;
  attributes.priority = static_cast<uint32_t>(scheduler.priority);
  attributes.runtime = scheduler.runtime;
  attributes.deadline = scheduler.deadline;
  attributes.period = scheduler.period;
  return sys::CheckCall(::syscall(SYS_sched_setattr, 0, &attributes, 0U), "process.scheduler: {}",
                        scheduler.policy);
}

Status SetIoPriority(const oci::IoPriority& priority) {
  const int value =
      TRY(oci::IoPriorityClass(priority.io_class)) << kIoprioClassShift | priority.priority;
  return sys::CheckCall(::syscall(SYS_ioprio_set, kIoprioWhoProcess, 0, value),
                        "process.ioPriority: {} {}", priority.io_class, priority.priority);
}

Status SetCpuAffinity(const std::string& cpus) {
  if (cpus.empty()) {
    return {};
  }
  const oci::CpuSet wanted = TRY(oci::ParseCpuList(cpus));
  static_assert(sizeof(cpu_set_t) * 8 == oci::CpuSet().size());
  cpu_set_t set;
  CPU_ZERO(&set);
  for (size_t cpu = 0; cpu < wanted.size(); ++cpu) {
    if (wanted[cpu]) {
      CPU_SET(cpu, &set);
    }
  }
  return sys::CheckCall(::sched_setaffinity(0, sizeof(set), &set),
                        "process.execCPUAffinity: CPUs {} (of the guest)", cpus);
}

Status SetPersonality(const std::string& domain) {
  if (domain.empty()) {
    return {};
  }
  return sys::CheckCall(::personality(TRY(oci::PersonalityDomain(domain))), "linux.personality: {}",
                        domain);
}

}  // namespace bulkhead::agent
