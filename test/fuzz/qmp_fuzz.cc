// Any bytes as what QEMU's monitor says: no crash, and lines come out whole.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "hypervisor/qemu/qmp_codec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace bulkhead::hypervisor::qemu;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  LineSplitter splitter;
  (void)splitter.Append(text.substr(0, size / 2));
  (void)splitter.Append(text.substr(size / 2));
  while (const auto line = splitter.Next()) {
    if (line->find('\n') != std::string::npos) {
      std::abort();
    }
    if (const auto message = ParseQmpMessage(*line)) {
      (void)ParseQmpShutdown(message->text);
      (void)ParseQmpDeviceDeleted(message->text);
    }
  }
  (void)FormatQmpCommand(1, "x", text);
  return 0;
}
