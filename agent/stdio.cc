#include "agent/stdio.h"

#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>

#include <algorithm>
#include <cerrno>

#include "base/sys.h"

namespace bulkhead::agent {
namespace {

constexpr int kInTag = 2;  // 0 and 1 are the outputs
constexpr size_t kFirstRead = 16U << 10U;
constexpr size_t kSmall = 64U << 10U;

}  // namespace

std::shared_ptr<Stdio> Stdio::Create(IoLoop& loop, Fds fds, bool terminal) {
  auto stdio = std::make_shared<Stdio>(loop, terminal);
  stdio->in_ = std::move(fds.in);
  stdio->outputs_[0].fd = std::move(fds.out);
  stdio->outputs_[1].fd = std::move(fds.err);
  for (int tag = 0; tag < 2; ++tag) {
    Output& output = stdio->outputs_[static_cast<size_t>(tag)];
    stdio->Watch(output.fd, output.token, tag);
  }
  stdio->Watch(stdio->in_, stdio->in_token_, kInTag);
  if (stdio->in_ && !terminal) {
    loop.Arm(stdio->in_token_, stdio->in_.get(), 0);  // EPOLLERR: nobody reads any more
  }
  return stdio;
}

Stdio::~Stdio() {
  for (Output& output : outputs_) {
    CloseFd(output.fd, output.token);
  }
  CloseFd(in_, in_token_);
}

void Stdio::Watch(UniqueFd& fd, IoLoop::Token& token, int tag) {
  if (fd) {
    static_cast<void>(sys::SetNonblocking(fd.get(), true));
    token = loop_.Add(fd.get(), weak_from_this(), tag);
  }
}

void Stdio::CloseFd(UniqueFd& fd, IoLoop::Token& token) {
  if (fd) {
    loop_.Remove(token, fd.get());
    fd.Reset();
  }
}

void Stdio::Attach(StdioSink* sink) {
  const std::scoped_lock lock(mutex_);
  if (sink_ != nullptr) {
    sink_->Close(true);
  }
  sink_ = sink;
  sending_ = false;
  in_closed_told_ = false;
  in_allowed_ = 0;
  in_credit_ = kStdinWindow - std::min(kStdinWindow, in_buffer_.size() - in_offset_);
  for (Output& output : outputs_) {
    output.credit = 0;
    output.eof_told = terminal_ && &output == &outputs_[1];
  }
  Pump();
}

void Stdio::Detach(StdioSink* sink) {
  const std::scoped_lock lock(mutex_);
  if (sink_ == sink) {
    sink_ = nullptr;
  }
}

Status Stdio::Input(StdioSink* sink, InputChunk chunk) {
  const std::scoped_lock lock(mutex_);
  if (sink_ != sink) {
    return {};
  }
  if (chunk.data.size() > in_allowed_) {
    return MakeError(ErrorCode::kResourceExhausted, "{} bytes of stdin with credit for {}",
                     chunk.data.size(), in_allowed_);
  }
  in_allowed_ -= chunk.data.size();
  for (size_t i = 0; i < outputs_.size(); ++i) {
    outputs_[i].credit += chunk.credit[i];
    if (chunk.closed[i]) {
      CloseFd(outputs_[i].fd, outputs_[i].token);
    }
  }
  if (in_) {
    in_buffer_.erase(0, std::exchange(in_offset_, 0));
    in_buffer_ = in_buffer_.empty() ? std::move(chunk.data) : in_buffer_ + chunk.data;
    in_eof_ = in_eof_ || (chunk.stdin_eof && !terminal_);
    WriteStdin();
  }
  Pump();
  return {};
}

void Stdio::Sent(StdioSink* sink, std::optional<OutputChunk> failed) {
  const std::scoped_lock lock(mutex_);
  const bool broken = failed.has_value();
  if (broken && !failed->data.empty()) {
    unsent_ = std::move(failed);
  }
  if (sink_ == sink) {
    sending_ = false;
    if (broken) {
      sink_ = nullptr;
    }
  }
  Pump();
}

Status Stdio::Resize(uint32_t rows, uint32_t columns) {
  const std::scoped_lock lock(mutex_);
  if (!terminal_) {
    return MakeError(ErrorCode::kFailedPrecondition, "the process has no terminal");
  }
  if (!outputs_[0].fd) {
    return {};
  }
  winsize size{};
  size.ws_row = static_cast<unsigned short>(std::min<uint32_t>(rows, UINT16_MAX));
  size.ws_col = static_cast<unsigned short>(std::min<uint32_t>(columns, UINT16_MAX));
  return sys::CheckCall(::ioctl(outputs_[0].fd.get(), TIOCSWINSZ, &size), "resize the terminal");
}

void Stdio::OnReady(int tag, uint32_t events) {
  const std::scoped_lock lock(mutex_);
  if (tag != kInTag) {
    outputs_[static_cast<size_t>(tag)].readable = true;
  } else if ((events & EPOLLERR) != 0 || (!terminal_ && (events & EPOLLHUP) != 0)) {
    CloseStdin();
  } else if (in_) {
    WriteStdin();
  }
  Pump();
}

void Stdio::Pump() {
  if (sink_ == nullptr || sending_) {
    return;
  }
  if (auto chunk = NextChunk()) {
    sending_ = true;
    sink_->Send(std::move(*chunk));  // last: it may call back
    return;
  }
  const bool done = !in_ && !outputs_[0].fd && !outputs_[1].fd;
  if (done) {
    std::exchange(sink_, nullptr)->Close(false);
  }
}

std::optional<OutputChunk> Stdio::NextChunk() {
  std::optional<OutputChunk> chunk = std::exchange(unsent_, std::nullopt);
  if (chunk && chunk->eof) {
    outputs_[chunk->stream == Stream::kStdout ? 0 : 1].eof_told = true;
  }
  for (size_t i = 0; i < outputs_.size() && !chunk; ++i) {
    chunk = ReadOutput((first_ + i) % outputs_.size());
  }
  if (chunk) {
    first_ = chunk->stream == Stream::kStdout ? 1 : 0;
  }
  OutputChunk news = chunk ? std::move(*chunk) : OutputChunk{};
  AddStdinNews(news);
  if (chunk || news.stdin_credit != 0 || news.stdin_closed) {
    return news;
  }
  return std::nullopt;
}

std::optional<OutputChunk> Stdio::ReadOutput(size_t index) {
  Output& output = outputs_[index];
  OutputChunk chunk;
  chunk.stream = index == 0 ? Stream::kStdout : Stream::kStderr;
  if (!output.fd) {
    chunk.eof = true;
    return std::exchange(output.eof_told, true) ? std::nullopt : std::optional(std::move(chunk));
  }
  if (!output.readable || output.credit == 0) {
    return std::nullopt;
  }
  chunk.eof = !Fill(output, chunk.data);
  output.credit -= chunk.data.size();
  if (chunk.eof) {
    output.eof_told = true;
    CloseFd(output.fd, output.token);
    if (terminal_) {
      CloseStdin();
    }
  }
  return chunk.eof || !chunk.data.empty() ? std::optional(std::move(chunk)) : std::nullopt;
}

// All there is, within credit and a chunk. False: the stream has ended.
bool Stdio::Fill(Output& output, std::string& data) {
  const size_t limit = std::min<uint64_t>(output.credit, kChunk);
  size_t filled = 0;
  std::optional<size_t> count;
  while (filled < limit) {
    // No larger than it is likely to need: it is cleared.
    data.resize(std::min(limit, std::max({kFirstRead, output.last_read, filled * 4})));
    const auto read =
        sys::Read(output.fd.get(), std::as_writable_bytes(std::span(data)).subspan(filled));
    if (!read && read.error().errnum() == EAGAIN) {
      output.readable = false;
      break;
    }
    count = read.value_or(0);  // EIO: no process has the terminal open any more
    if (*count == 0) {
      break;
    }
    filled += *count;
  }
  data.resize(filled);
  output.last_read = filled;
  if (!output.readable && filled > 0 && filled < kSmall) {
    loop_.ArmLater(output.token, output.fd.get(), EPOLLIN, kGatherTime);
  } else if (!output.readable) {
    loop_.Arm(output.token, output.fd.get(), EPOLLIN);
  }
  return count != 0U;
}

void Stdio::AddStdinNews(OutputChunk& chunk) {
  if (!in_) {
    chunk.stdin_closed = !std::exchange(in_closed_told_, true);
    return;
  }
  // Small news wait for company; a host that has used up its window must hear at once.
  if (in_credit_ >= kStdinWindow / 4 || in_buffer_.empty()) {
    chunk.stdin_credit = static_cast<uint32_t>(std::exchange(in_credit_, 0));
    in_allowed_ += chunk.stdin_credit;
  }
}

void Stdio::WriteStdin() {
  while (in_ && in_offset_ < in_buffer_.size()) {
    const auto rest = std::as_bytes(std::span(in_buffer_)).subspan(in_offset_);
    const auto count = sys::Write(in_.get(), rest);
    if (!count && count.error().errnum() == EAGAIN) {
      loop_.Arm(in_token_, in_.get(), EPOLLOUT);
      return;
    }
    if (!count) {
      return CloseStdin();
    }
    in_offset_ += *count;
    in_credit_ += *count;
  }
  in_buffer_.clear();
  in_offset_ = 0;
  if (in_eof_) {
    CloseStdin();
  } else if (in_ && !terminal_) {
    loop_.Arm(in_token_, in_.get(), 0);
  }
}

void Stdio::CloseStdin() {
  if (in_) {
    ::shutdown(in_.get(), SHUT_WR);  // of a connection, the other direction stays open
  }
  CloseFd(in_, in_token_);
  in_buffer_.clear();
  in_offset_ = 0;
}

}  // namespace bulkhead::agent
