// QEMU's machine protocol, as bytes and values: one JSON object a line. No I/O; fuzzed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace bulkhead::hypervisor::qemu {

struct QmpMessage {
  enum class Kind { kGreeting, kReturn, kError, kEvent };
  Kind kind = Kind::kEvent;
  std::optional<uint64_t> id;  // of the command that a return or an error answers
  std::string name;            // kEvent: its name; kError: its class
  std::string text;            // JSON: what was returned, or the event's data; kError: the sentence
};

Result<QmpMessage> ParseQmpMessage(std::string_view line);

// A command as a line. `arguments` is a JSON object or empty.
Result<std::string> FormatQmpCommand(uint64_t id, std::string_view command,
                                     std::string_view arguments);

// Why the VM stopped, of the data of a SHUTDOWN event.
struct QmpShutdown {
  bool by_guest = false;
  std::string reason;  // "guest-shutdown", "guest-reset", "host-qmp-quit", ...
};
Result<QmpShutdown> ParseQmpShutdown(std::string_view data);

// The id of the device that is gone, of the data of a DEVICE_DELETED event. Empty for a part of
// a device, which has none.
Result<std::string> ParseQmpDeviceDeleted(std::string_view data);

// Cuts a stream of bytes into lines.
class LineSplitter {
 public:
  static constexpr size_t kMaxLine = 1U << 20U;

  // Fails when a line is longer than kMaxLine.
  Status Append(std::string_view bytes);
  // The next whole line without its end.
  std::optional<std::string> Next();

 private:
  std::string buffer_;
  size_t begin_ = 0;    // of the line to come
  size_t scanned_ = 0;  // no line ends before this
};

}  // namespace bulkhead::hypervisor::qemu
