// The guest's console: read as it comes, so that the guest never waits, and kept in part.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "base/unique_fd.h"

namespace bulkhead::hypervisor::qemu {

// The last bytes of a text, and the kernel's panic message wherever it stood. Not thread-safe.
class ConsoleText {
 public:
  static constexpr size_t kMaxText = 64U << 10U;
  static constexpr size_t kMaxLine = 1024;

  void Append(std::string_view bytes);
  // What is not printable shows as '?'.
  std::string Tail() const;
  // "Kernel panic - not syncing: ..." without time stamp, and in brackets what the kernel first
  // complained of; empty if there was none.
  const std::string& panic() const { return panic_; }

 private:
  void EndLine();

  std::string text_;
  std::string line_;
  std::string cause_;
  std::string panic_;
};

class ConsoleLog {
 public:
  explicit ConsoleLog(UniqueFd socket);
  ~ConsoleLog();
  ConsoleLog(const ConsoleLog&) = delete;
  ConsoleLog& operator=(const ConsoleLog&) = delete;

  std::string Tail() const;
  std::string Panic() const;
  // False when the console is still open at the end of that time.
  bool WaitClosed(std::chrono::milliseconds timeout);

 private:
  void Run();

  const UniqueFd socket_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool closed_ = false;
  ConsoleText text_;
  std::thread reader_;
};

}  // namespace bulkhead::hypervisor::qemu
