#include "hypervisor/qemu/qmp_codec.h"

#include <nlohmann/json.hpp>

namespace bulkhead::hypervisor::qemu {
namespace {

using Json = nlohmann::json;

// Never throws: text that is not UTF-8 gets replacement characters.
std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string StringAt(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

Result<Json> ParseObject(std::string_view text, std::string_view what) {
  // The depth is bounded: the parser itself does not recurse, but the values it makes do.
  constexpr int kMaxDepth = 64;
  bool too_deep = false;
  const Json::parser_callback_t limit = [&](int depth, Json::parse_event_t, Json&) {
    too_deep = too_deep || depth > kMaxDepth;
    return depth <= kMaxDepth;
  };
  Json json = Json::parse(text, limit, /*allow_exceptions=*/false);
  if (too_deep || !json.is_object()) {
    return MakeError(ErrorCode::kInvalidArgument, "QMP: {} is not a JSON object", what);
  }
  return json;
}

}  // namespace

Result<QmpMessage> ParseQmpMessage(std::string_view line) {
  const Json json = TRY(ParseObject(line, "a message"));
  QmpMessage message;
  if (const auto id = json.find("id"); id != json.end() && id->is_number_unsigned()) {
    message.id = id->get<uint64_t>();
  }
  if (json.contains("QMP")) {
    message.kind = QmpMessage::Kind::kGreeting;
    message.text = Dump(json["QMP"]);
  } else if (const auto value = json.find("return"); value != json.end()) {
    message.kind = QmpMessage::Kind::kReturn;
    message.text = Dump(*value);
  } else if (const auto error = json.find("error"); error != json.end() && error->is_object()) {
    message.kind = QmpMessage::Kind::kError;
    message.name = StringAt(*error, "class");
    message.text = StringAt(*error, "desc");
  } else if (const std::string event = StringAt(json, "event"); !event.empty()) {
    message.name = event;
    message.text = json.contains("data") ? Dump(json["data"]) : "{}";
  } else {
    return MakeError(ErrorCode::kInvalidArgument, "QMP: neither greeting, return, error nor event");
  }
  return message;
}

Result<std::string> FormatQmpCommand(uint64_t id, std::string_view command,
                                     std::string_view arguments) {
  Json json = {{"execute", command}, {"id", id}};
  if (!arguments.empty()) {
    json["arguments"] = TRY(ParseObject(arguments, "the arguments"));
  }
  return Dump(json) + "\n";
}

Result<QmpShutdown> ParseQmpShutdown(std::string_view data) {
  const Json json = TRY(ParseObject(data, "SHUTDOWN's data"));
  QmpShutdown shutdown;
  const auto guest = json.find("guest");
  shutdown.by_guest = guest != json.end() && guest->is_boolean() && guest->get<bool>();
  shutdown.reason = StringAt(json, "reason");
  return shutdown;
}

Result<std::string> ParseQmpDeviceDeleted(std::string_view data) {
  return StringAt(TRY(ParseObject(data, "DEVICE_DELETED's data")), "device");
}

Status LineSplitter::Append(std::string_view bytes) {
  buffer_.erase(0, begin_);
  scanned_ -= begin_;
  begin_ = 0;
  buffer_ += bytes;
  const size_t last = buffer_.rfind('\n');
  const size_t rest = last == std::string::npos ? buffer_.size() : buffer_.size() - last - 1;
  // Lines that are whole came in one read, which is far shorter than the bound.
  if (rest > kMaxLine) {
    return MakeError(ErrorCode::kResourceExhausted, "QMP: a line longer than {} bytes", kMaxLine);
  }
  return {};
}

std::optional<std::string> LineSplitter::Next() {
  const size_t end = buffer_.find('\n', scanned_);
  if (end == std::string::npos) {
    scanned_ = buffer_.size();
    return std::nullopt;
  }
  std::string line = buffer_.substr(begin_, end - begin_);
  begin_ = scanned_ = end + 1;
  if (!line.empty() && line.back() == '\r') {
    line.pop_back();
  }
  return line;
}

}  // namespace bulkhead::hypervisor::qemu
