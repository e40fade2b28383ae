// The process object of config.json.
#include <sched.h>

#include <algorithm>
#include <set>

#include "oci/spec_readers.h"
#include "oci/words.h"

namespace bulkhead::oci {
namespace {

constexpr int kMinNice = -20;
constexpr int kMaxNice = 19;

// As runc: profiles are written for kernels of any age.
void DropUnknown(const Fields& fields, const char* name, std::vector<std::string>& set) {
  const std::vector<std::string>& all = AllCapabilities();
  std::erase_if(set, [&](const std::string& capability) {
    const bool unknown = std::find(all.begin(), all.end(), capability) == all.end();
    if (unknown) {
      fields.Warn(name, fmt::format("unknown capability \"{}\" is ignored", capability));
    }
    return unknown;
  });
}

void CheckRlimits(const Fields& fields, const std::vector<Rlimit>& limits) {
  std::set<std::string_view> seen;
  for (const Rlimit& limit : limits) {
    if (!seen.insert(limit.type).second) {
      fields.Fail("rlimits", fmt::format("{} stands there twice", limit.type));
    }
  }
}

}  // namespace

void ReadFields(const Fields& fields, User& out) {
  fields.Get("uid", out.uid);
  fields.Get("gid", out.gid);
  fields.Get("umask", out.umask);
  fields.Get("additionalGids", out.additional_gids);
  fields.GetWithoutEffect<std::string>("username", "");  // of Windows, and written by some engines
}

void ReadFields(const Fields& fields, ConsoleSize& out) {
  fields.Require("height", out.height);
  fields.Require("width", out.width);
}

void ReadFields(const Fields& fields, Rlimit& out) {
  fields.Require("type", out.type);
  fields.Require("soft", out.soft);
  fields.Require("hard", out.hard);
  constexpr std::string_view kPrefix = "RLIMIT_";
  if (!out.type.starts_with(kPrefix) || out.type == kPrefix) {  // the guest knows which there are
    fields.Fail("type", "expected a name such as RLIMIT_NOFILE");
  }
}

void ReadFields(const Fields& fields, Capabilities& out) {
  fields.Get("bounding", out.bounding);
  fields.Get("effective", out.effective);
  fields.Get("inheritable", out.inheritable);
  fields.Get("permitted", out.permitted);
  fields.Get("ambient", out.ambient);
  DropUnknown(fields, "bounding", out.bounding);
  DropUnknown(fields, "effective", out.effective);
  DropUnknown(fields, "inheritable", out.inheritable);
  DropUnknown(fields, "permitted", out.permitted);
  DropUnknown(fields, "ambient", out.ambient);
}

void ReadFields(const Fields& fields, Scheduler& out) {
  fields.Require("policy", out.policy);
  fields.Get("nice", out.nice);
  fields.Get("priority", out.priority);
  fields.Get("flags", out.flags);
  fields.Get("runtime", out.runtime);
  fields.Get("deadline", out.deadline);
  fields.Get("period", out.period);
  const auto policy = SchedulerPolicy(out.policy);
  fields.Check("policy", policy);
  for (const std::string& flag : out.flags) {
    fields.Check("flags", SchedulerFlag(flag));
  }
  const bool fair = policy && (*policy == SCHED_OTHER || *policy == SCHED_BATCH);
  const bool realtime = policy && (*policy == SCHED_FIFO || *policy == SCHED_RR);
  if (fair && (out.nice < kMinNice || out.nice > kMaxNice)) {
    fields.Fail("nice", "expected -20 to 19");
  }
  if (out.priority != 0 && !realtime) {
    fields.Fail("priority", "is for SCHED_FIFO and SCHED_RR alone");
  }
  if (out.policy != "SCHED_DEADLINE" && (out.runtime | out.deadline | out.period) != 0) {
    fields.Fail("runtime", "runtime, deadline and period are for SCHED_DEADLINE alone");
  }
}

void ReadFields(const Fields& fields, IoPriority& out) {
  fields.Require("class", out.io_class);
  fields.Get("priority", out.priority);
  fields.Check("class", IoPriorityClass(out.io_class));
  if (out.priority < 0 || out.priority > 7) {
    fields.Fail("priority", "expected 0 to 7");
  }
}

void ReadFields(const Fields& fields, CpuAffinity& out) {
  fields.Get("initial", out.initial);
  fields.Get("final", out.final_);
  if (!out.initial.empty()) {
    fields.Check("initial", ParseCpuList(out.initial));
  }
  if (!out.final_.empty()) {
    fields.Check("final", ParseCpuList(out.final_));
  }
}

void ReadFields(const Fields& fields, Process& out) {
  fields.Get("terminal", out.terminal);
  fields.Get("consoleSize", out.console_size);
  fields.Get("user", out.user);
  fields.Require("args", out.args);
  fields.Get("env", out.env);
  fields.Require("cwd", out.cwd);
  fields.Get("capabilities", out.capabilities);
  fields.Get("rlimits", out.rlimits);
  fields.Get("noNewPrivileges", out.no_new_privileges);
  fields.Get("oomScoreAdj", out.oom_score_adj);
  if (out.args.empty()) {
    fields.Fail("args", "needs at least one argument");
  }
  if (out.cwd.empty() || out.cwd.front() != '/') {
    fields.Fail("cwd", "must be an absolute path");
  }
  fields.Get("scheduler", out.scheduler);
  fields.Get("ioPriority", out.io_priority);
  fields.Get("execCPUAffinity", out.exec_cpu_affinity);
  CheckRlimits(fields, out.rlimits);
  // The guest has neither system; engines name a profile wherever the host has one.
  fields.GetWithoutEffect<std::string>("apparmorProfile", "");
  fields.GetWithoutEffect<std::string>("selinuxLabel", "");
  fields.GetWithoutEffect<std::string>("commandLine", "it is for Windows");
}

}  // namespace bulkhead::oci
