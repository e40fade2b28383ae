#include "hypervisor/qemu/console_log.h"

#include <sys/socket.h>

#include <array>

#include "base/sys.h"

namespace bulkhead::hypervisor::qemu {
namespace {

// Empty when `words` are not in the line.
std::string PrintableFrom(std::string_view line, std::string_view words) {
  const size_t at = line.find(words);
  std::string found(at == std::string_view::npos ? "" : line.substr(at));
  for (char& c : found) {
    c = c >= ' ' && c <= '~' ? c : '?';
  }
  return found;
}

}  // namespace

void ConsoleText::Append(std::string_view bytes) {
  for (const char c : bytes) {
    if (c == '\n') {
      EndLine();
    } else if (line_.size() < kMaxLine && c != '\r') {
      line_ += c;
    }
  }
  text_ += bytes;
  // Cut seldom: moving the text costs as much as copying it.
  if (text_.size() > 2 * kMaxText) {
    text_.erase(0, text_.size() - kMaxText);
  }
}

void ConsoleText::EndLine() {
  if (cause_.empty()) {
    for (const std::string_view complaint :
         {"Kernel BUG at", "BUG: ", "Oops: ", "general protection fault"}) {
      cause_ = cause_.empty() ? PrintableFrom(line_, complaint) : cause_;
    }
  }
  if (panic_.empty()) {
    panic_ = PrintableFrom(line_, "Kernel panic - not syncing");
    panic_ += panic_.empty() || cause_.empty() ? "" : " (" + cause_ + ")";
  }
  line_.clear();
}

std::string ConsoleText::Tail() const {
  std::string tail;
  for (const char c :
       std::string_view(text_).substr(text_.size() - std::min(text_.size(), kMaxText))) {
    if (c == '\n' || c == '\t' || (c >= ' ' && c <= '~')) {
      tail += c;
    } else if (c != '\r') {
      tail += '?';
    }
  }
  return tail;
}

ConsoleLog::ConsoleLog(UniqueFd socket) : socket_(std::move(socket)), reader_([this] { Run(); }) {}

ConsoleLog::~ConsoleLog() {
  ::shutdown(socket_.get(), SHUT_RDWR);  // wakes the reader
  reader_.join();
}

std::string ConsoleLog::Tail() const {
  const std::lock_guard lock(mutex_);
  return text_.Tail();
}

std::string ConsoleLog::Panic() const {
  const std::lock_guard lock(mutex_);
  return text_.panic();
}

bool ConsoleLog::WaitClosed(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, timeout, [&] { return closed_; });
}

void ConsoleLog::Run() {
  std::array<std::byte, 4096> buffer;
  while (true) {
    const auto size = sys::Read(socket_.get(), buffer);
    const std::lock_guard lock(mutex_);
    if (!size || *size == 0) {
      closed_ = true;
      changed_.notify_all();
      return;
    }
    text_.Append({reinterpret_cast<const char*>(buffer.data()), *size});
  }
}

}  // namespace bulkhead::hypervisor::qemu
