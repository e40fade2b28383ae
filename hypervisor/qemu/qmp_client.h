// A connection to QEMU's monitor. A thread of its own reads it, and does the greeting too, so that
// neither the VM's start nor the guest waits for it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/result.h"
#include "base/unique_fd.h"
#include "hypervisor/qemu/qmp_codec.h"

namespace bulkhead::hypervisor::qemu {

class QmpClient {
 public:
  // Called on the reader thread; they may not call Execute().
  struct Handlers {
    std::function<void()> on_ready = [] {};
    std::function<void(const QmpMessage&)> on_event = [](const QmpMessage&) {};
    std::function<void()> on_closed = [] {};  // last
  };

  QmpClient(UniqueFd socket, Handlers handlers);
  ~QmpClient();
  QmpClient(const QmpClient&) = delete;
  QmpClient& operator=(const QmpClient&) = delete;

  // What the command returned, as JSON. Waits for the greeting if it has not come yet. From any
  // thread; kUnavailable when the connection is gone, kDeadlineExceeded when the time ran out,
  // kNotFound when there is no such device. `fd` goes with the command, unless it is -1.
  Result<std::string> Execute(std::string_view command, std::string_view arguments,
                              std::chrono::milliseconds timeout, int fd = -1);

  // True when QEMU has closed the connection: no event comes any more.
  bool WaitClosed(std::chrono::milliseconds timeout);

 private:
  void Run();
  Status ReadSome(LineSplitter& splitter);
  Status Handle(QmpMessage message);
  Status Send(std::string_view line, int fd = -1);
  Error ClosedLocked() const;

  const UniqueFd socket_;
  const Handlers handlers_;
  std::mutex send_mutex_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ready_ = false;
  std::optional<Error> closed_;  // why
  uint64_t next_id_ = 1;
  std::map<uint64_t, std::optional<QmpMessage>> waiting_;
  std::thread reader_;
};

}  // namespace bulkhead::hypervisor::qemu
