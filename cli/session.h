// Signals and the time limit beside the work that starts a process and waits for it.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <optional>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "cli/daemon.h"
#include "cli/globals.h"

namespace bulkhead::cli {

// Blocks the signals that a Session takes; before any thread starts.
void BlockSignals();

class Session {
 public:
  Session(Context& context, std::optional<std::chrono::milliseconds> time_limit)
      : context_(context), time_limit_(time_limit) {}

  // Runs `work` in a thread, and takes signals meanwhile. What it returns is work's answer, unless
  // a signal before the start (128+n) or the time limit (124) ended it.
  Result<int> Run(std::function<Result<int>()> work);

  // For the work. From OnAbort on, `abort` ends it, rather than the end of this program.
  void OnAbort(std::function<void()> abort);
  // Signals go to this process from now on; `client` stays until Ended().
  void Started(TaskClient* client, const std::string& exec_id, bool terminal);
  void Ended();
  void set_stop_signal(int signal) { stop_signal_ = signal; }
  bool aborted();

 private:
  using Clock = std::chrono::steady_clock;

  void Loop(int signals, int done);
  void TakeSignal(int signal);
  void TimeIsUp();
  void Abort(int exit_code);
  void Resize();
  // False when there is no process to send it to.
  bool Send(int signal);

  Context& context_;
  const std::optional<std::chrono::milliseconds> time_limit_;
  std::optional<Clock::time_point> deadline_;
  std::atomic<int> stop_signal_ = 15;
  int asked_to_end_ = 0;  // SIGINT and SIGTERM so far
  int time_up_step_ = 0;
  std::optional<int> forced_exit_;

  std::mutex mutex_;
  std::function<void()> abort_;
  bool aborted_ = false;
  TaskClient* client_ = nullptr;
  std::string exec_id_;
  bool terminal_ = false;
};

}  // namespace bulkhead::cli
