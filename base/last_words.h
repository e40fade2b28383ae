// What a process writes to its stderr, the last 16 KiB of it.
#pragma once

#include <string>

#include "base/unique_fd.h"

namespace bulkhead {

class LastWords {
 public:
  static constexpr size_t kMaxText = 16U << 10U;

  LastWords() = default;
  explicit LastWords(UniqueFd pipe) : pipe_(std::move(pipe)) {}

  int fd() const { return pipe_.get(); }  // -1 at the end
  // Reads what is there without waiting.
  void ReadMore();
  // The last lines, joined to one.
  std::string Text() const;

 private:
  UniqueFd pipe_;
  std::string text_;
};

}  // namespace bulkhead
