#include "base/last_words.h"

#include <poll.h>

#include <array>
#include <sstream>
#include <vector>

#include "base/sys.h"

namespace bulkhead {

void LastWords::ReadMore() {
  std::array<std::byte, 4096> buffer;
  while (pipe_ && sys::PollOne(pipe_.get(), POLLIN, std::chrono::milliseconds(0)).value_or(false)) {
    const auto size = sys::Read(pipe_.get(), buffer);
    if (!size || *size == 0) {
      pipe_.Reset();
      return;
    }
    text_.append(reinterpret_cast<const char*>(buffer.data()), *size);
    if (text_.size() > kMaxText) {
      text_.erase(0, text_.size() - kMaxText);
    }
  }
}

std::string LastWords::Text() const {
  constexpr size_t kMaxLines = 3;
  std::vector<std::string> lines;
  std::istringstream stream(text_);
  for (std::string line; std::getline(stream, line);) {
    if (!line.empty()) {
      lines.push_back(line);
    }
  }
  std::string text;
  for (size_t i = lines.size() - std::min(lines.size(), kMaxLines); i < lines.size(); ++i) {
    text += (text.empty() ? "" : "; ") + lines[i];
  }
  return text;
}

}  // namespace bulkhead
