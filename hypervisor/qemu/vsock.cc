#include "hypervisor/qemu/vsock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
// After sys/socket.h, whose types it uses.
#include <linux/vm_sockets.h>

#include <random>
#include <thread>

#include "base/sys.h"

namespace bulkhead::hypervisor::qemu {
namespace {

constexpr unsigned long kSetGuestCid = _IOW(0xAF, 0x60, uint64_t);
constexpr std::chrono::milliseconds kRetryInterval{3};

// The error of a connect that has ended; 0 when it stands.
Result<int> ConnectOutcome(int socket) {
  int error = 0;
  socklen_t size = sizeof(error);
  TRY(sys::CheckCall(::getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size), "SO_ERROR"));
  return error;
}

// nullopt: not yet.
Result<std::optional<UniqueFd>> TryConnect(const sockaddr_vm& address) {
  UniqueFd socket(::socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  TRY(sys::CheckCall(socket.get(), "socket AF_VSOCK"));
  const int result =
      ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  int error = result == 0 ? 0 : sys::LastErrno();
  if (error == EINPROGRESS) {
    // A guest that does not run yet answers late: another attempt is quicker than a long wait.
    if (!TRY(sys::PollOne(socket.get(), POLLOUT, std::chrono::milliseconds(50)))) {
      return std::nullopt;
    }
    error = TRY(ConnectOutcome(socket.get()));
  }
  if (error != 0) {
    return std::nullopt;
  }
  TRY(sys::SetNonblocking(socket.get(), false));
  return socket;
}

}  // namespace

Result<GuestVsock> AllocateVsock() {
  constexpr int kAttempts = 64;
  UniqueFd device = TRY(sys::Open("/dev/vhost-vsock", O_RDWR));
  std::random_device random;
  // 0 to 2 and the highest have a meaning.
  std::uniform_int_distribution<uint32_t> choose(3, 0xfffffffe);
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const uint64_t cid = choose(random);
    const Status set =
        sys::CheckCall(::ioctl(device.get(), kSetGuestCid, &cid), "set the guest's vsock CID");
    if (set) {
      return GuestVsock{std::move(device), static_cast<uint32_t>(cid)};
    }
    if (set.error().errnum() != EADDRINUSE) {
      return tl::unexpected(set.error());
    }
  }
  return MakeError(ErrorCode::kResourceExhausted, "no free vsock CID in {} attempts", kAttempts);
}

Result<UniqueFd> ConnectVsock(uint32_t cid, uint32_t port,
                              std::chrono::steady_clock::time_point deadline,
                              const std::function<Status()>& interrupted) {
  sockaddr_vm address{};
  address.svm_family = AF_VSOCK;
  address.svm_cid = cid;
  address.svm_port = port;
  while (true) {
    TRY(interrupted());
    auto socket = TRY(TryConnect(address));
    if (socket) {
      return std::move(*socket);
    }
    if (std::chrono::steady_clock::now() >= deadline) {
      return MakeError(ErrorCode::kDeadlineExceeded,
                       "the agent in the guest does not answer on vsock {}:{}", cid, port);
    }
    std::this_thread::sleep_for(kRetryInterval);
  }
}

}  // namespace bulkhead::hypervisor::qemu
