// A seccomp profile of config.json, compiled to the kernel's BPF.
#pragma once

#include <string>

#include "base/result.h"
#include "oci/spec.h"

namespace bulkhead::agent {

struct SeccompProgram {
  unsigned flags = 0;  // SECCOMP_FILTER_FLAG_*
  std::string filter;  // the bytes of an array of struct sock_filter
};

// Names of system calls that libseccomp does not know are skipped, as runc does: profiles are
// written for many kernels.
Result<SeccompProgram> CompileSeccomp(const oci::Seccomp& profile);

// For the calling thread. Needs CAP_SYS_ADMIN or no_new_privs.
Status LoadSeccomp(unsigned flags, std::string_view filter);

}  // namespace bulkhead::agent
