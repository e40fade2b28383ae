// Prints docs/spec-coverage.md.
#include <cstdio>

#include "oci/spec_coverage.h"

int main() {
  const std::string text = bulkhead::oci::SpecCoverageMarkdown();
  return std::fwrite(text.data(), 1, text.size(), stdout) == text.size() ? 0 : 1;
}
