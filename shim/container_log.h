// A container's output on disk, in the log format of Kubernetes' CRI: "TIME STREAM F|P TEXT", a
// line each; P: the line goes on. Bounded: at kMaxBytes the file is renamed to PATH.1 and begun
// anew.
#pragma once

#include <array>
#include <cstddef>
#include <mutex>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead::shim {

class ContainerLog {
 public:
  static constexpr size_t kMaxBytes = 16U << 20U;
  static constexpr size_t kMaxLine = 16U << 10U;

  explicit ContainerLog(std::string path) : path_(std::move(path)) {}
  Status Open();
  // Any thread. `stream`: 0 stdout, 1 stderr.
  void Append(size_t stream, std::string_view data);
  void Flush();  // what has no newline yet, as a partial line

 private:
  void WriteRecord(size_t stream, char tag, std::string_view text);
  void Write(std::string_view bytes);

  const std::string path_;
  std::mutex mutex_;
  UniqueFd fd_;
  size_t size_ = 0;
  std::string out_;                     // records of one Append
  std::array<std::string, 2> pending_;  // begun lines
};

}  // namespace bulkhead::shim
