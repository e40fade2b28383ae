// The process's stdio and ours: fifos shared with the daemon, copied byte by byte in threads.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "cli/daemon.h"
#include "cli/globals.h"
#include "cli/terminal.h"

namespace bulkhead::cli {

class Attachment {
 public:
  // Makes the fifos `<folder>/<prefix>{stdin,stdout,stderr}` and opens the ends to read from. With
  // a terminal there is no stderr of its own.
  static Result<std::unique_ptr<Attachment>> Make(const std::string& folder,
                                                  const std::string& prefix, bool interactive,
                                                  bool terminal);
  ~Attachment();
  Attachment(const Attachment&) = delete;
  Attachment& operator=(const Attachment&) = delete;

  const StdioPaths& paths() const { return paths_; }

  // After the daemon has opened its ends. Sets our terminal to raw mode when both have one.
  // `on_error` is called, once, from a thread, when our output can no longer be written.
  Status Begin(std::function<void()> on_error);
  // Waits for the end of the output. False when something still holds it open.
  bool Drain(std::chrono::milliseconds timeout);
  // What kept our output from being written; a reader that went away is no error.
  std::optional<Error> output_error() const;

 private:
  struct Shared;

  Attachment() = default;

  StdioPaths paths_;
  bool terminal_ = false;
  UniqueFd out_;
  UniqueFd err_;
  std::shared_ptr<Shared> shared_;  // with the threads, which may outlive this
  std::optional<RawTerminal> raw_;
};

// Says what must be refused before anything starts: -t -i without a terminal, closed stdout.
Status CheckStdio(const GlobalOptions& options, bool interactive, bool terminal, bool detach);

}  // namespace bulkhead::cli
