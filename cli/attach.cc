#include "cli/attach.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <functional>
#include <thread>
#include <vector>

#include "base/scope_guard.h"
#include "base/sys.h"

namespace bulkhead::cli {
namespace {

constexpr size_t kBuffer = 256U << 10U;
constexpr int kFifoSize = 1 << 20;

// A fifo and, for output, the end to read from: without O_NONBLOCK once open, which would wait.
Result<UniqueFd> MakeFifo(const std::string& path, bool output) {
  TRY(sys::Mkfifo(path, 0600));
  if (!output) {
    return UniqueFd();
  }
  UniqueFd fd = TRY(sys::Open(path, O_RDONLY | O_NONBLOCK));
  TRY(sys::SetNonblocking(fd.get(), false));
  (void)::fcntl(fd.get(), F_SETPIPE_SZ, kFifoSize);  // fewer, larger reads; a limit may forbid it
  return fd;
}

}  // namespace

struct Attachment::Shared {
  std::mutex mutex;
  std::condition_variable changed;
  int outputs = 0;  // still open
  std::optional<Error> error;
  std::function<void()> on_error;
  UniqueFd stop;  // an eventfd, readable when the input's thread shall end

  void CopyOutput(UniqueFd from, int to);
  void CopyInput(UniqueFd to) const;
  bool WriteInput(int to, std::span<const std::byte> data) const;
};

// Until the end of the fifo. When nobody reads our output any more the fifo is closed too, so that
// the process meets a broken pipe as it would under a shell.
void Attachment::Shared::CopyOutput(UniqueFd from, int to) {
  std::vector<std::byte> buffer(kBuffer);
  while (true) {
    const Result<size_t> count = sys::Read(from.get(), buffer);
    if (!count || *count == 0) {
      break;
    }
    const std::string_view data(reinterpret_cast<const char*>(buffer.data()), *count);
    if (const Status written = sys::WriteAll(to, data); !written) {
      if (written.error().errnum() != EPIPE) {
        const std::lock_guard lock(mutex);
        if (!error) {
          error = MakeErrno(written.error().errnum(), "cannot write to standard {}",
                            to == STDOUT_FILENO ? "output" : "error")
                      .value();
          if (on_error) {
            on_error();  // under the lock, so that the destructor waits for it
          }
        }
      }
      break;
    }
  }
  from.Reset();
  const std::lock_guard lock(mutex);
  --outputs;
  changed.notify_all();
}

bool Attachment::Shared::WriteInput(int to, std::span<const std::byte> data) const {
  while (!data.empty()) {
    const Result<size_t> count = sys::Write(to, data);
    if (count) {
      data = data.subspan(*count);
      continue;
    }
    if (count.error().errnum() != EAGAIN) {
      return false;  // the process closed its input
    }
    std::array<pollfd, 2> polls{pollfd{to, POLLOUT, 0}, pollfd{stop.get(), POLLIN, 0}};
    (void)::poll(polls.data(), polls.size(), -1);
    if (polls[1].revents != 0) {
      return false;
    }
  }
  return true;
}

void Attachment::Shared::CopyInput(UniqueFd to) const {
  std::vector<std::byte> buffer(64U << 10U);
  while (true) {
    std::array<pollfd, 3> polls{pollfd{STDIN_FILENO, POLLIN, 0}, pollfd{stop.get(), POLLIN, 0},
                                pollfd{to.get(), 0, 0}};
    (void)::poll(polls.data(), polls.size(), -1);
    if (polls[1].revents != 0 || (polls[2].revents & POLLERR) != 0) {
      return;
    }
    if (polls[0].revents == 0) {
      continue;
    }
    const Result<size_t> count = sys::Read(STDIN_FILENO, buffer);
    if (!count && count.error().errnum() == EAGAIN) {
      continue;
    }
    if (!count || *count == 0 || !WriteInput(to.get(), std::span(buffer).first(*count))) {
      return;
    }
  }
}

Result<std::unique_ptr<Attachment>> Attachment::Make(const std::string& folder,
                                                     const std::string& prefix, bool interactive,
                                                     bool terminal) {
  std::unique_ptr<Attachment> made(new Attachment);
  made->terminal_ = terminal;
  made->shared_ = std::make_shared<Shared>();
  made->shared_->stop = TRY(sys::EventFd());
  const std::string base = folder + "/" + prefix;
  if (interactive) {
    TRY(MakeFifo(base + "stdin", false));
    made->paths_.in = base + "stdin";
  }
  made->out_ = TRY(MakeFifo(base + "stdout", true));
  made->paths_.out = base + "stdout";
  if (!terminal) {
    made->err_ = TRY(MakeFifo(base + "stderr", true));
    made->paths_.err = base + "stderr";
  }
  return made;
}

Attachment::~Attachment() {
  if (shared_) {
    {
      const std::lock_guard lock(shared_->mutex);
      shared_->on_error = nullptr;
    }
    (void)sys::WriteAll(shared_->stop.get(), std::string_view("\1\0\0\0\0\0\0\0", 8));
  }
  for (const std::string* path : {&paths_.in, &paths_.out, &paths_.err}) {
    if (!path->empty()) {
      (void)sys::Unlink(*path);
    }
  }
}

Status Attachment::Begin(std::function<void()> on_error) {
  shared_->on_error = std::move(on_error);
  shared_->outputs = terminal_ ? 1 : 2;
  UniqueFd in;
  if (!paths_.in.empty()) {
    in = TRY_AS(sys::Open(paths_.in, O_WRONLY | O_NONBLOCK), "standard input");
    if (terminal_ && IsTerminal(STDIN_FILENO)) {
      raw_.emplace(TRY(RawTerminal::Enter(STDIN_FILENO)));
    }
  }
  const auto start_copy = [&](UniqueFd from, int to) {
    std::thread([shared = shared_, from = std::move(from), to]() mutable {
      shared->CopyOutput(std::move(from), to);
    }).detach();
  };
  start_copy(std::move(out_), STDOUT_FILENO);
  if (!terminal_) {
    start_copy(std::move(err_), STDERR_FILENO);
  }
  if (in) {
    std::thread([shared = shared_, in = std::move(in)]() mutable {
      shared->CopyInput(std::move(in));
    }).detach();
  }
  return {};
}

bool Attachment::Drain(std::chrono::milliseconds timeout) {
  std::unique_lock lock(shared_->mutex);
  return shared_->changed.wait_for(lock, timeout, [&] { return shared_->outputs == 0; });
}

std::optional<Error> Attachment::output_error() const {
  const std::lock_guard lock(shared_->mutex);
  return shared_->error;
}

Status CheckStdio(const GlobalOptions& options, bool interactive, bool terminal, bool detach) {
  if (!options.was_open[STDOUT_FILENO]) {
    return MakeError(ErrorCode::kInvalidArgument, "standard output is closed");
  }
  if (interactive && terminal && !detach && !IsTerminal(STDIN_FILENO)) {
    return MakeError(ErrorCode::kInvalidArgument, "the input device is not a TTY");
  }
  return {};
}

}  // namespace bulkhead::cli
