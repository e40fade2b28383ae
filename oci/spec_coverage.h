// Every field of the runtime specification (config.json of Linux, 1.2) and what becomes of it here,
// each with the test that proves it. docs/spec-coverage.md is written from this table by
// scripts/spec-coverage; spec_coverage_test.cc holds it against the readers, the tests and that
// document.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace bulkhead::oci {

struct FieldCoverage {
  enum class Status {
    kDone,      // as with runc
    kGuest,     // as with runc, within the guest: its kernel, its devices
    kHost,      // done on the host
    kNoEffect,  // of a right form, and of no effect
    kRefused,   // an error that names the field
  };
  std::string_view field;  // with "[]" for each of a list; after ": " some of its values
  Status status;
  std::string_view remark;
  std::string_view test;  // "Suite.Test" or "file.py::test_name"
};

std::span<const FieldCoverage> SpecCoverage();
std::string SpecCoverageMarkdown();

}  // namespace bulkhead::oci
