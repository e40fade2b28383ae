// The agent's ends of one process's stdin, stdout and stderr, and the credit between them and the
// host. Output is read only as far as the host gave credit: else it stays in the pipe, and a new
// stream finds it there when one broke. Knows nothing of gRPC.
#pragma once

#include <array>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "agent/io_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead::agent {

enum class Stream { kStdin = 0, kStdout = 1, kStderr = 2 };

// From the guest. The same as StdioOutput of agent.proto.
struct OutputChunk {
  Stream stream = Stream::kStdout;
  std::string data;
  bool eof = false;
  uint32_t stdin_credit = 0;
  bool stdin_closed = false;
};

// From the host. The same as StdioInput.
struct InputChunk {
  std::string data;
  bool stdin_eof = false;
  std::array<uint32_t, 2> credit{};  // stdout, stderr
  std::array<bool, 2> closed{};
};

// The stream to the host. Called with the Stdio's lock held.
class StdioSink {
 public:
  virtual ~StdioSink() = default;
  // The next one comes only after Stdio::Sent.
  virtual void Send(OutputChunk chunk) = 0;
  // Nothing more will come; `replaced`: another stream took over.
  virtual void Close(bool replaced) = 0;
};

class Stdio : public IoHandler, public std::enable_shared_from_this<Stdio> {
 public:
  struct Fds {
    UniqueFd in;   // invalid: no stdin
    UniqueFd out;  // a terminal's master, a pipe, or a socket that `in` is, too
    UniqueFd err;
  };
  static constexpr size_t kStdinWindow = 256U << 10U;
  static constexpr size_t kChunk = 256U << 10U;
  // After a little output: what comes within this time goes in one message. Only what follows
  // something waits, never the first byte.
  static constexpr std::chrono::milliseconds kGatherTime{1};

  static std::shared_ptr<Stdio> Create(IoLoop& loop, Fds fds, bool terminal);
  Stdio(IoLoop& loop, bool terminal) : loop_(loop), terminal_(terminal) {}
  ~Stdio() override;

  void Attach(StdioSink* sink);
  void Detach(StdioSink* sink);
  // Fails when the host sends more stdin than it was given credit for.
  Status Input(StdioSink* sink, InputChunk chunk);
  // The chunk was written, or (`failed`) comes back to be sent by the next stream.
  void Sent(StdioSink* sink, std::optional<OutputChunk> failed);
  Status Resize(uint32_t rows, uint32_t columns);

  void OnReady(int tag, uint32_t events) override;

 private:
  struct Output {
    UniqueFd fd;
    IoLoop::Token token = 0;
    uint64_t credit = 0;
    bool readable = true;   // no EAGAIN seen since
    bool eof_told = false;  // to the stream that is attached
    size_t last_read = 0;
  };

  void Watch(UniqueFd& fd, IoLoop::Token& token, int tag);
  void CloseFd(UniqueFd& fd, IoLoop::Token& token);
  void Pump();
  std::optional<OutputChunk> NextChunk();
  std::optional<OutputChunk> ReadOutput(size_t index);
  bool Fill(Output& output, std::string& data);
  void AddStdinNews(OutputChunk& chunk);
  void WriteStdin();
  void CloseStdin();

  IoLoop& loop_;
  const bool terminal_;
  // Recursive: gRPC may tell of a write's end from within the write's start.
  std::recursive_mutex mutex_;
  std::array<Output, 2> outputs_;
  size_t first_ = 0;  // whose turn it is
  UniqueFd in_;
  IoLoop::Token in_token_ = 0;
  std::string in_buffer_;
  size_t in_offset_ = 0;
  uint64_t in_credit_ = 0;   // to be given
  uint64_t in_allowed_ = 0;  // was given to this stream and not used
  bool in_eof_ = false;
  bool in_closed_told_ = false;
  StdioSink* sink_ = nullptr;
  bool sending_ = false;
  std::optional<OutputChunk> unsent_;
};

}  // namespace bulkhead::agent
