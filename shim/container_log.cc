#include "shim/container_log.h"

#include <fcntl.h>

#include "base/log.h"
#include "base/sys.h"

namespace bulkhead::shim {
Status ContainerLog::Open() {
  const std::lock_guard lock(mutex_);
  fd_ = TRY(sys::Open(path_, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600));
  size_ = 0;
  return {};
}

void ContainerLog::Append(size_t stream, std::string_view data) {
  const std::lock_guard lock(mutex_);
  std::string& pending = pending_.at(stream);
  while (!data.empty()) {
    const size_t room = kMaxLine - pending.size();
    const size_t newline = data.substr(0, room).find('\n');
    if (newline != std::string_view::npos) {
      pending += data.substr(0, newline);
      WriteRecord(stream, 'F', pending);
      pending.clear();
      data.remove_prefix(newline + 1);
      continue;
    }
    pending += data.substr(0, room);
    data.remove_prefix(std::min(room, data.size()));
    if (pending.size() == kMaxLine) {
      WriteRecord(stream, 'P', pending);
      pending.clear();
    }
  }
  Write(out_);
  out_.clear();
}

void ContainerLog::Flush() {
  const std::lock_guard lock(mutex_);
  for (size_t stream = 0; stream < pending_.size(); ++stream) {
    if (!pending_.at(stream).empty()) {
      WriteRecord(stream, 'P', pending_.at(stream));
      pending_.at(stream).clear();
    }
  }
  Write(out_);
  out_.clear();
}

void ContainerLog::WriteRecord(size_t stream, char tag, std::string_view text) {
  out_ += fmt::format("{} {} {} {}\n", UtcNow(9), stream == 0 ? "stdout" : "stderr", tag, text);
}

void ContainerLog::Write(std::string_view bytes) {
  if (!fd_ || bytes.empty()) {
    return;
  }
  if (size_ + bytes.size() > kMaxBytes) {
    if (sys::Rename(path_, path_ + ".1")) {
      if (auto fresh = sys::Open(path_, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600)) {
        fd_ = std::move(*fresh);
        size_ = 0;
      }
    }
  }
  // A log that cannot be written must not stop the container.
  if (sys::WriteAll(fd_.get(), bytes)) {
    size_ += bytes.size();
  }
}

}  // namespace bulkhead::shim
