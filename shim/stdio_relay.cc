#include "shim/stdio_relay.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "base/sys.h"

namespace bulkhead::shim {
namespace {

constexpr size_t kStdinChunk = 64U << 10U;
// How often it is looked whether a fifo has a reader.
constexpr std::chrono::milliseconds kFirstLook(2);
constexpr std::chrono::milliseconds kLastLook(500);

// What closing does not do while another fd holds the connection. Nothing to other files.
void EndSocket(int fd, bool cut) {
  constexpr linger kReset{1, 0};
  if (cut) {
    (void)::setsockopt(fd, SOL_SOCKET, SO_LINGER, &kReset, sizeof(kReset));
  } else {
    (void)::shutdown(fd, SHUT_WR);
  }
}

bool HasReader(int writer) {
  pollfd entry{writer, 0, 0};
  return ::poll(&entry, 1, 0) <= 0 || (entry.revents & POLLERR) == 0;
}

// What is in a fifo is lost with its last descriptor, and who opens it for reading then waits for
// ever. A writer's end of one that was waiting for its reader and still does; else nothing.
UniqueFd KeepForReader(UniqueFd fifo) {
  if ((::fcntl(fifo.get(), F_GETFL) & O_ACCMODE) != O_RDWR) {
    return {};
  }
  auto writer = sys::Open(fmt::format("/proc/self/fd/{}", fifo.get()), O_WRONLY | O_NONBLOCK);
  fifo.Reset();
  return writer && !HasReader(writer->get()) ? std::move(*writer) : UniqueFd();
}

}  // namespace

Result<std::unique_ptr<StdioRelay>> StdioRelay::Open(const StdioPaths& paths,
                                                     const StdioPolicy& policy, ContainerLog* log,
                                                     Logger& logger) {
  std::unique_ptr<StdioRelay> relay(new StdioRelay(log, logger));
  relay->wake_ = TRY(sys::EventFd());
  StdioTargets targets = TRY(OpenStdioTargets(paths, policy));
  relay->in_ = std::move(targets.in);
  relay->outputs_[0].fifo = std::move(targets.out);
  relay->outputs_[1].fifo = std::move(targets.err);
  relay->logger_process_ = std::move(targets.logger);
  return relay;
}

Result<std::unique_ptr<StdioRelay>> StdioRelay::Open(UniqueFd socket, Logger& logger) {
  std::unique_ptr<StdioRelay> relay(new StdioRelay(nullptr, logger));
  relay->wake_ = TRY(sys::EventFd());
  relay->in_ = TRY(sys::Dup(socket.get()));
  relay->outputs_[0].fifo = std::move(socket);
  return relay;
}

void StdioRelay::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    drained_.notify_all();
  }
  if (stream_) {
    context_.TryCancel();
  }
  Wake();
}

StdioRelay::~StdioRelay() {
  Stop();
  if (reader_.joinable()) {
    reader_.join();
  }
  if (mover_.joinable()) {
    mover_.join();
  }
}

void StdioRelay::Start(AgentClient& agent, const ProcessName& name) {
  pb::StdioInput first;
  FillRef(*first.mutable_open(), name);
  Begin(agent, std::move(first));
}

void StdioRelay::Start(AgentClient& agent, uint16_t port, std::function<void()> on_end) {
  on_end_ = std::move(on_end);
  pb::StdioInput first;
  first.set_connect(port);
  Begin(agent, std::move(first));
}

void StdioRelay::Begin(AgentClient& agent, pb::StdioInput first) {
  stream_ = agent.OpenStdio(context_);
  mover_ = std::thread([this, first = std::move(first)]() mutable { MoveBytes(std::move(first)); });
  reader_ = std::thread([this] { ReadStream(); });
}

bool StdioRelay::Ended() const {
  const std::lock_guard lock(mutex_);
  return ended_;
}

void StdioRelay::CloseStdin() {
  {
    const std::lock_guard lock(mutex_);
    in_closing_ = true;
  }
  Wake();
}

void StdioRelay::Wake() {
  const uint64_t one = 1;
  (void)sys::Write(wake_.get(), std::as_bytes(std::span(&one, 1)));
}

void StdioRelay::ReadStream() {
  pb::StdioOutput message;
  while (stream_->Read(&message)) {
    if (!Take(message)) {
      context_.TryCancel();
      break;
    }
    Wake();
  }
  {
    const std::lock_guard lock(mutex_);
    stream_ended_ = true;
    for (Output& output : outputs_) {
      output.cut = !std::exchange(output.eof, true);
    }
  }
  Wake();
}

// False: the guest broke the rules and is heard no more.
bool StdioRelay::Take(const pb::StdioOutput& message) {
  const std::lock_guard lock(mutex_);
  in_credit_ = std::min<uint64_t>(in_credit_ + message.stdin_credit(), kWindow);
  if (message.stdin_closed()) {
    in_done_ = true;
  }
  if (message.stream() != pb::STDOUT && message.stream() != pb::STDERR) {
    return message.data().empty() && !message.eof();
  }
  const size_t index = message.stream() == pb::STDOUT ? 0 : 1;
  Output& output = outputs_.at(index);
  if (!message.data().empty()) {
    if (output.queued + message.data().size() > kWindow) {
      logger_.Warning("the guest sent more output than it was allowed: its stream is cut");
      return false;
    }
    if (log_ != nullptr) {
      log_->Append(index, message.data());
    }
    moved_ += message.data().size();
    output.queued += message.data().size();
    output.queue.push_back(message.data());
  }
  output.eof = output.eof || message.eof();
  return true;
}

void StdioRelay::MoveBytes(pb::StdioInput message) {
  bool stream_alive = true;
  while (true) {
    if (Compose(message) && stream_alive) {
      stream_alive = stream_->Write(message);
    }
    message.Clear();
    std::vector<pollfd> polls{{wake_.get(), POLLIN, 0}};
    int timeout = -1;
    {
      const std::lock_guard lock(mutex_);
      if (Drained()) {
        drained_.notify_all();
      }
      const bool over = Drained() && stream_ended_;
      if (stopping_ || (over && !outputs_[0].fifo && !outputs_[1].fifo)) {
        break;
      }
      if (over) {
        continue;  // the end came since Compose, and is still to be told
      }
      if (in_ && !in_eof_ && !in_done_ && in_credit_ > 0) {
        polls.push_back({in_.get(), POLLIN, 0});
        timeout = in_closing_ ? 0 : -1;  // an empty fifo is the end then
      }
      for (const Output& output : outputs_) {
        // Without queued bytes only the client's hang-up (POLLERR) is of interest.
        if (output.fifo) {
          polls.push_back(
              {output.fifo.get(), static_cast<short>(output.queue.empty() ? 0 : POLLOUT), 0});
        }
      }
    }
    (void)::poll(polls.data(), polls.size(), timeout);
    uint64_t count = 0;
    (void)sys::Read(wake_.get(), std::as_writable_bytes(std::span(&count, 1)));
  }
  stream_->WritesDone();
  if (log_ != nullptr) {
    log_->Flush();
  }
  AwaitReaders();
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
  }
  if (on_end_) {
    on_end_();
  }
}

// An engine may open a fifo only when a short process has long ended.
void StdioRelay::AwaitReaders() {
  for (auto pause = kFirstLook;; pause = std::min(pause * 2, kLastLook)) {
    bool waiting = false;
    {
      const std::lock_guard lock(mutex_);
      for (Output& output : outputs_) {
        if (output.kept && HasReader(output.kept.get())) {
          output.kept.Reset();
        }
        waiting = waiting || output.kept;
      }
      waiting = waiting && !stopping_;
    }
    if (!waiting) {
      return;
    }
    uint64_t count = 0;
    (void)sys::PollOne(wake_.get(), POLLIN, pause);
    (void)sys::Read(wake_.get(), std::as_writable_bytes(std::span(&count, 1)));
  }
}

// Moves what can be moved; `message` is what the guest is to hear of it.
bool StdioRelay::Compose(pb::StdioInput& message) {
  const std::lock_guard lock(mutex_);
  ReadStdin(message);
  for (size_t i = 0; i < outputs_.size(); ++i) {
    Output& output = outputs_.at(i);
    WriteOutput(output);
    // Small returns are saved up (a message for each costs more than it moves); the guest never
    // runs dry by that, for it still has the other half.
    if (output.credit >= kWindow / 2) {
      (i == 0) ? message.set_stdout_credit(output.credit)
               : message.set_stderr_credit(output.credit);
      output.credit = 0;
    }
    if (output.hung_up && !output.told) {
      (i == 0) ? message.set_stdout_closed(true) : message.set_stderr_closed(true);
      output.told = true;
    }
  }
  return message.has_open() || message.connect() != 0 || !message.data().empty() ||
         message.stdin_eof() || message.stdout_credit() > 0 || message.stderr_credit() > 0 ||
         message.stdout_closed() || message.stderr_closed();
}

void StdioRelay::WriteOutput(Output& output) {
  while (!output.queue.empty()) {
    const std::string& front = output.queue.front();
    size_t written = front.size() - output.offset;  // thrown away when nobody reads
    if (output.fifo) {
      auto result =
          sys::Write(output.fifo.get(), std::as_bytes(std::span(front)).subspan(output.offset));
      if (!result && result.error().errnum() == EAGAIN) {
        return;
      }
      if (result) {
        written = *result;
      } else {
        output.hung_up = true;
        output.fifo.Reset();
      }
    }
    moved_ += written;
    output.offset += written;
    output.queued -= written;
    output.credit += static_cast<uint32_t>(written);
    if (output.offset == front.size()) {
      output.queue.pop_front();
      output.offset = 0;
    }
  }
  if (output.fifo && !output.eof) {
    pollfd entry{output.fifo.get(), 0, 0};
    if (::poll(&entry, 1, 0) > 0 && (entry.revents & (POLLERR | POLLHUP)) != 0) {
      output.hung_up = true;
      output.fifo.Reset();
    }
  }
  if (output.eof && output.fifo) {
    EndSocket(output.fifo.get(), output.cut);
    output.kept = KeepForReader(std::move(output.fifo));  // else the client sees the end
  }
}

void StdioRelay::ReadStdin(pb::StdioInput& message) {
  if (in_done_) {
    in_.Reset();  // the client gets EPIPE, as the writer of any pipe whose reader is gone
  }
  if (!in_) {
    return;
  }
  if (!in_eof_ && in_credit_ > 0) {
    pollfd entry{in_.get(), POLLIN, 0};
    if (::poll(&entry, 1, 0) <= 0) {
      in_eof_ = in_closing_;
    } else {
      std::string& data = *message.mutable_data();
      data.resize(std::min<uint64_t>(in_credit_, kStdinChunk));
      const auto count = sys::Read(in_.get(), std::as_writable_bytes(std::span(data)));
      data.resize(count.value_or(0));
      in_credit_ -= data.size();
      in_eof_ = count ? *count == 0 : count.error().errnum() != EAGAIN;
    }
  }
  if (in_eof_) {
    message.set_stdin_eof(true);
    in_done_ = true;
    in_.Reset();
  }
}

bool StdioRelay::Drained() const {
  return std::all_of(outputs_.begin(), outputs_.end(),
                     [](const Output& output) { return output.eof && output.queue.empty(); });
}

void StdioRelay::WaitQuiet(std::chrono::milliseconds pause, std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  std::unique_lock lock(mutex_);
  uint64_t seen = 0;
  do {
    seen = moved_;
    if (drained_.wait_for(lock, pause, [this] { return stopping_ || Drained(); })) {
      return;
    }
  } while (moved_ != seen && std::chrono::steady_clock::now() < deadline);
}

bool StdioRelay::WaitDrained(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  return drained_.wait_for(lock, timeout, [this] { return stopping_ || Drained(); });
}

}  // namespace bulkhead::shim
