#include "hypervisor/qemu/qmp_client.h"

#include <sys/socket.h>

#include <array>

#include "base/scope_guard.h"
#include "base/sys.h"

namespace bulkhead::hypervisor::qemu {
namespace {

constexpr uint64_t kNegotiationId = 0;

ErrorCode CodeOfClass(std::string_view name) {
  if (name == "CommandNotFound") {
    return ErrorCode::kUnimplemented;
  }
  return name == "DeviceNotFound" ? ErrorCode::kNotFound : ErrorCode::kInternal;
}

}  // namespace

QmpClient::QmpClient(UniqueFd socket, Handlers handlers)
    : socket_(std::move(socket)), handlers_(std::move(handlers)), reader_([this] { Run(); }) {}

QmpClient::~QmpClient() {
  ::shutdown(socket_.get(), SHUT_RDWR);  // wakes the reader
  reader_.join();
}

Error QmpClient::ClosedLocked() const {
  return Error(ErrorCode::kUnavailable, "QMP: " + closed_->message());
}

Result<std::string> QmpClient::Execute(std::string_view command, std::string_view arguments,
                                       std::chrono::milliseconds timeout, int fd) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  const auto late = [&] {
    return MakeError(ErrorCode::kDeadlineExceeded, "QMP {}: no answer within {} ms", command,
                     timeout.count());
  };
  std::unique_lock lock(mutex_);
  if (!changed_.wait_until(lock, deadline, [&] { return ready_ || closed_; })) {
    return late();
  }
  if (closed_) {
    return tl::unexpected(ClosedLocked());
  }
  const uint64_t id = next_id_++;
  const std::string line = TRY(FormatQmpCommand(id, command, arguments));
  const auto place = waiting_.emplace(id, std::nullopt).first;
  const ScopeGuard forget([&] { waiting_.erase(place); });  // under the lock
  lock.unlock();
  const Status sent = Send(line, fd);
  lock.lock();
  if (!sent) {
    return tl::unexpected(sent.error());
  }
  if (!changed_.wait_until(lock, deadline, [&] { return place->second || closed_; })) {
    return late();
  }
  if (!place->second) {
    return tl::unexpected(ClosedLocked());
  }
  QmpMessage& answer = *place->second;
  if (answer.kind == QmpMessage::Kind::kError) {
    return MakeError(CodeOfClass(answer.name), "QMP {}: {}", command, answer.text);
  }
  return std::move(answer.text);
}

bool QmpClient::WaitClosed(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, timeout, [&] { return closed_.has_value(); });
}

Status QmpClient::Send(std::string_view line, int fd) {
  const std::lock_guard lock(send_mutex_);
  if (fd >= 0) {  // goes with the first byte
    TRY_AS(sys::SendWithFds(socket_.get(), line.substr(0, 1), std::span(&fd, 1)), "QMP");
    line.remove_prefix(1);
  }
  while (!line.empty()) {
    // Not write(2): QEMU may be gone, and that must not be a SIGPIPE.
    const ssize_t size = ::send(socket_.get(), line.data(), line.size(), MSG_NOSIGNAL);
    if (size < 0) {
      if (sys::LastErrno() == EINTR) {
        continue;
      }
      return MakeErrno(sys::LastErrno(), "QMP: send");
    }
    line.remove_prefix(static_cast<size_t>(size));
  }
  return {};
}

void QmpClient::Run() {
  LineSplitter splitter;
  Status status;
  while (status) {
    status = ReadSome(splitter);
  }
  {
    const std::lock_guard lock(mutex_);
    closed_ = std::move(status).error();
  }
  changed_.notify_all();
  handlers_.on_closed();
}

Status QmpClient::ReadSome(LineSplitter& splitter) {
  std::array<std::byte, 16384> buffer;
  const size_t size = TRY(sys::Read(socket_.get(), buffer));
  if (size == 0) {
    return MakeError(ErrorCode::kUnavailable, "QEMU closed the connection");
  }
  TRY(splitter.Append({reinterpret_cast<const char*>(buffer.data()), size}));
  while (const auto line = splitter.Next()) {
    if (!line->empty()) {
      TRY(Handle(TRY(ParseQmpMessage(*line))));
    }
  }
  return {};
}

Status QmpClient::Handle(QmpMessage message) {
  switch (message.kind) {
    case QmpMessage::Kind::kGreeting:
      return Send(TRY(FormatQmpCommand(kNegotiationId, "qmp_capabilities", "")));
    case QmpMessage::Kind::kEvent:
      handlers_.on_event(message);
      return {};
    case QmpMessage::Kind::kReturn:
    case QmpMessage::Kind::kError:
      break;
  }
  if (message.id == kNegotiationId) {
    if (message.kind == QmpMessage::Kind::kError) {
      return MakeError(ErrorCode::kInternal, "qmp_capabilities: {}", message.text);
    }
    handlers_.on_ready();
    const std::lock_guard lock(mutex_);
    ready_ = true;
  } else if (message.id) {
    const std::lock_guard lock(mutex_);
    const auto place = waiting_.find(*message.id);
    if (place != waiting_.end()) {  // else its caller has given up
      place->second = std::move(message);
    }
  }
  changed_.notify_all();
  return {};
}

}  // namespace bulkhead::hypervisor::qemu
