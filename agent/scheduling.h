// What process.scheduler, ioPriority, execCPUAffinity and linux.personality ask for, of the calling
// process.
#pragma once

#include <string>

#include "base/result.h"
#include "oci/spec.h"

namespace bulkhead::agent {

Status SetScheduler(const oci::Scheduler& scheduler);
Status SetIoPriority(const oci::IoPriority& priority);
// `cpus` as "0-3,7"; "": as it is.
Status SetCpuAffinity(const std::string& cpus);
Status SetPersonality(const std::string& domain);

}  // namespace bulkhead::agent
