// Which devices a container may open or make: cgroup v2 has no file for it, only a BPF program.
#pragma once

#include <linux/bpf.h>

#include <vector>

#include "base/result.h"
#include "oci/spec.h"

namespace bulkhead::agent {

// What the rules come to when they are applied in order, as cgroup v1 did: everything is denied or
// allowed, but for the exceptions.
struct DevicePolicy {
  struct Exception {
    char type;        // 'c' or 'b'
    int64_t major;    // -1: any
    int64_t minor;    // -1: any
    uint32_t access;  // BPF_DEVCG_ACC_*
  };
  bool allow_by_default = false;
  std::vector<Exception> exceptions;

  // Starts from "deny all"; the devices that every container has are allowed after the rules.
  static Result<DevicePolicy> FromRules(const std::vector<oci::DeviceRule>& rules);
};

std::vector<bpf_insn> CompileDevicePolicy(const DevicePolicy& policy);

// Loads the program and attaches it to the cgroup, for as long as that exists.
Status AttachDevicePolicy(int cgroup, const DevicePolicy& policy);

}  // namespace bulkhead::agent
