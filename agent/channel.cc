#include "agent/channel.h"

#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <thread>
#include <vector>

#include "base/sys.h"

namespace bulkhead::agent {
namespace {

using std::chrono::milliseconds;

constexpr auto kPortTimeout = std::chrono::seconds(10);
constexpr size_t kBufferBytes = 256U << 10U;
constexpr int kSocketBytes = 1 << 20;

// One direction: what was read and not yet written.
class Direction {
 public:
  Direction(int from, int to) : from_(from), to_(to), buffer_(kBufferBytes) {}

  bool WantsRead() const { return end_ < buffer_.size(); }
  bool WantsWrite() const { return begin_ < end_; }

  // Reads as much as there is (virtio-serial gives 4 KiB at a time). False: end of file.
  Result<bool> Read() {
    while (WantsRead()) {
      const auto room = std::span(buffer_).subspan(end_);
      const auto count = sys::Read(from_, room);
      if (!count && count.error().errnum() == EAGAIN) {
        return true;
      }
      const size_t bytes = TRY(count);
      if (bytes == 0) {
        return false;
      }
      end_ += bytes;
    }
    return true;
  }

  Status Write() {
    while (WantsWrite()) {
      const auto count = sys::Write(to_, std::span(buffer_).subspan(begin_, end_ - begin_));
      if (!count && count.error().errnum() == EAGAIN) {
        return {};
      }
      begin_ += TRY(count);
    }
    begin_ = end_ = 0;
    return {};
  }

 private:
  const int from_;
  const int to_;
  std::vector<std::byte> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
};

short Interest(const Direction& in, const Direction& out) {
  return static_cast<short>((in.WantsRead() ? POLLIN : 0) | (out.WantsWrite() ? POLLOUT : 0));
}

Result<std::string> FindPort(const std::string& name) {
  const std::string folder = "/sys/class/virtio-ports";
  const auto deadline = std::chrono::steady_clock::now() + kPortTimeout;
  while (std::chrono::steady_clock::now() < deadline) {
    for (const std::string& device :
         sys::ListDirectory(folder).value_or(std::vector<std::string>())) {
      const auto text = sys::ReadFile(fmt::format("{}/{}/name", folder, device));
      if (text && *text == name + "\n" && sys::Exists("/dev/" + device)) {
        return "/dev/" + device;
      }
    }
    std::this_thread::sleep_for(milliseconds(2));
  }
  return MakeError(ErrorCode::kNotFound, "no virtio-serial port named {}", name);
}

bool HostIsThere(int port) {
  pollfd entry{port, 0, 0};
  ::poll(&entry, 1, 0);
  return (entry.revents & POLLHUP) == 0;
}

// What a host that is gone had sent must not reach the next.
void Drain(int port) {
  std::vector<std::byte> buffer(kBufferBytes);
  while (true) {
    const auto count = sys::Read(port, buffer);
    if (!count || *count == 0) {
      return;
    }
  }
}

void AwaitHost(int port, bool present) {
  auto pause = milliseconds(1);
  while (HostIsThere(port) != present) {
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, milliseconds(present ? 20 : 100));
  }
}

Status RunSerial(const AgentOptions& options, const Serve& serve, Logger& log) {
  const std::string path = TRY(FindPort(options.port_name));
  const UniqueFd port = TRY(sys::Open(path, O_RDWR | O_NONBLOCK));
  log.Debug("channel", {{"port", path}});
  while (true) {
    AwaitHost(port.get(), true);
    auto [ours, theirs] = TRY(sys::MakeSocketPair(SOCK_STREAM));
    for (const UniqueFd* fd : {&ours, &theirs}) {
      ::setsockopt(fd->get(), SOL_SOCKET, SO_SNDBUF, &kSocketBytes, sizeof(kSocketBytes));
      TRY(sys::SetNonblocking(fd->get(), true));
    }
    log.Debug("the host is connected");
    serve(std::move(theirs));
    if (auto status = PumpOnce(port.get(), ours.get()); !status) {
      log.Warning("the connection broke", {{"error", status.error().message()}});
    }
    ours.Reset();
    AwaitHost(port.get(), false);
    Drain(port.get());
  }
}

Status RunVsock(const AgentOptions& options, const Serve& serve, Logger& log) {
  const UniqueFd listener(::socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0));
  TRY(sys::CheckCall(listener.get(), "vsock"));
  sockaddr_vm address{};
  address.svm_family = AF_VSOCK;
  address.svm_cid = VMADDR_CID_ANY;
  address.svm_port = options.port;
  TRY(sys::CheckCall(
      ::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)),
      "bind vsock port {}", options.port));
  TRY(sys::CheckCall(::listen(listener.get(), 8), "listen"));
  while (true) {
    sockaddr_vm peer{};
    socklen_t size = sizeof(peer);
    UniqueFd connection(::accept4(listener.get(), reinterpret_cast<sockaddr*>(&peer), &size,
                                  SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!connection) {
      std::this_thread::sleep_for(milliseconds(10));
      continue;
    }
    // Processes of the guest can reach the port, too.
    if (peer.svm_cid != VMADDR_CID_HOST) {
      log.Warning("refused a connection that is not the host's");
      continue;
    }
    serve(std::move(connection));
  }
}

}  // namespace

Status PumpOnce(int port, int socket) {
  Direction in(port, socket);
  Direction out(socket, port);
  while (true) {
    std::array<pollfd, 2> fds{pollfd{port, Interest(in, out), 0},
                              pollfd{socket, Interest(out, in), 0}};
    if (::poll(fds.data(), fds.size(), -1) < 0) {
      continue;
    }
    if ((fds[0].revents & POLLHUP) != 0) {
      return {};
    }
    if ((fds[0].revents & POLLIN) != 0 && !TRY(in.Read())) {
      return {};
    }
    TRY(in.Write());
    if ((fds[1].revents & (POLLIN | POLLHUP)) != 0 && out.WantsRead() && !TRY(out.Read())) {
      return out.Write();
    }
    TRY(out.Write());
  }
}

Status RunChannel(const AgentOptions& options, const Serve& serve, Logger& log) {
  return options.channel == AgentOptions::Channel::kVsock ? RunVsock(options, serve, log)
                                                          : RunSerial(options, serve, log);
}

}  // namespace bulkhead::agent
