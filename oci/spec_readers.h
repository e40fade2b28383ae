// The readers of config.json that stand in files of their own.
#pragma once

#include "oci/json_reader.h"
#include "oci/spec.h"

namespace bulkhead::oci {

void ReadFields(const Fields& fields, Process& out);    // spec_process.cc
void ReadFields(const Fields& fields, Resources& out);  // spec_resources.cc
void ReadFields(const Fields& fields, Seccomp& out);    // spec_seccomp.cc

}  // namespace bulkhead::oci
