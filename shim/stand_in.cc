// The daemon's side of a stand-in, and its start; stand_in_main.cc is the process itself.
#include "shim/stand_in.h"

#include <fcntl.h>
#include <poll.h>

#include <array>
#include <cerrno>
#include <string_view>

#include "base/sys.h"
#include "shim/stand_in_fds.h"

namespace bulkhead::shim {
namespace {

constexpr size_t kMaxReport = 4096;

}  // namespace

Result<Child> SpawnStandIn(const StandInSpec& spec, const Spawner& spawner) {
  using Kind = NetworkNamespace::Kind;
  sys::Pipe report = TRY(sys::MakePipe());
  SpawnOptions spawn;
  spawn.program = spec.program;
  spawn.argv = spec.title.empty() ? std::vector<std::string>{kStandInComm} : spec.title;
  std::string words = spec.network.kind == Kind::kHost  ? "host"
                      : spec.network.kind == Kind::kNew ? "new"
                                                        : "join";
  spawn.fds = {{report.write.get(), kReportFd}};
  UniqueFd joined;
  if (spec.network.kind == Kind::kJoin) {
    joined = TRY_AS(sys::Open(spec.network.path, O_RDONLY), "linux.namespaces: network");
    spawn.fds.push_back({joined.get(), kNamespaceFd});
  }
  if (spec.channel >= 0) {
    words += " channel";
    spawn.fds.push_back({spec.channel, kChannelFd});
    spawn.death_signal = 0;
    spawn.new_session = true;
  }
  if (spec.terminal >= 0) {
    words += spec.controlling ? " controlling" : " terminal";
    spawn.fds.push_back({spec.terminal, kTerminalFd});
  }
  spawn.env = {std::string(kStandInVariable) + "=" + words};
  if (!spec.bundle.empty()) {
    spawn.env->push_back(std::string(kStandInBundleVariable) + "=" + spec.bundle);
  }
  Child child = TRY_AS(spawner(spawn), "stand-in");
  report.write.Reset();
  std::array<std::byte, kMaxReport> buffer{};
  const size_t count = TRY(sys::Read(report.read.get(), buffer));
  const std::string_view said(reinterpret_cast<const char*>(buffer.data()), count);
  if (said != "ready") {
    return MakeError(ErrorCode::kInternal, "stand-in: {}", said.empty() ? "it ended" : said);
  }
  return child;
}

Result<std::unique_ptr<StandIn>> StandIn::Start(SpawnThread& spawner, const std::string& program,
                                                const NetworkNamespace& network, Events events) {
  StandInSpec spec;
  spec.program = program;
  spec.network = network;
  Child child =
      TRY(SpawnStandIn(spec, [&](const SpawnOptions& options) { return spawner.Spawn(options); }));
  UniqueFd stop = TRY(sys::EventFd());
  Link link;
  link.pid = child.pid();
  return std::unique_ptr<StandIn>(
      new StandIn(std::move(child), std::move(link), std::move(stop), std::move(events)));
}

Result<std::unique_ptr<StandIn>> StandIn::Adopt(Link link, Events events) {
  if (link.pid <= 0 || !link.pidfd || !link.channel) {
    return MakeError(ErrorCode::kInvalidArgument, "the stand-in is not complete");
  }
  TRY(sys::SetNonblocking(link.channel.get(), true));
  UniqueFd stop = TRY(sys::EventFd());
  return std::unique_ptr<StandIn>(
      new StandIn(std::nullopt, std::move(link), std::move(stop), std::move(events)));
}

StandIn::StandIn(std::optional<Child> child, Link link, UniqueFd stop, Events events)
    : child_(std::move(child)),
      pid_(link.pid),
      pidfd_(std::move(link.pidfd)),
      channel_(std::move(link.channel)),
      stop_(std::move(stop)),
      events_(std::move(events)),
      watcher_([this] { Watch(); }) {}

StandIn::~StandIn() {
  const uint64_t one = 1;
  (void)sys::Write(stop_.get(), std::as_bytes(std::span(&one, 1)));
  watcher_.join();
}

void StandIn::Watch() {
  const int pidfd = child_ ? child_->pidfd() : pidfd_.get();
  std::array<pollfd, 3> events{pollfd{pidfd, POLLIN, 0}, pollfd{stop_.get(), POLLIN, 0},
                               pollfd{channel_.get(), POLLIN, 0}};
  while (true) {
    if (::poll(events.data(), events.size(), -1) <= 0) {
      continue;
    }
    if (events[1].revents != 0) {
      return;
    }
    if (events[2].revents != 0 && !ReadChannel()) {
      events[2].fd = -1;  // it is about to end
    }
    if (events[0].revents != 0) {
      events_.on_end();
      return;
    }
  }
}

bool StandIn::ReadChannel() {
  StandInMessage message;
  const auto count = sys::Read(channel_.get(), std::as_writable_bytes(std::span(&message, 1)));
  if (!count) {
    return count.error().errnum() == EAGAIN;
  }
  if (*count != sizeof(message)) {
    return false;
  }
  if (message.kind == StandInMessage::kSignal && events_.on_signal) {
    events_.on_signal(message.first);
  } else if (message.kind == StandInMessage::kSize && events_.on_size) {
    const WindowSize size{static_cast<uint32_t>(message.first),
                          static_cast<uint32_t>(message.second)};
    {
      const std::lock_guard lock(mutex_);
      size_ = size;
    }
    events_.on_size(size);
  }
  return true;
}

bool StandIn::Ended() const {
  const int pidfd = child_ ? child_->pidfd() : pidfd_.get();
  return sys::PollOne(pidfd, POLLIN, std::chrono::milliseconds(0)).value_or(false);
}

std::optional<WindowSize> StandIn::size() const {
  const std::lock_guard lock(mutex_);
  return size_;
}

void StandIn::TellExit(int code, int signal) {
  if (channel_) {
    const StandInMessage message{StandInMessage::kExit, code, signal};
    (void)sys::Write(channel_.get(), std::as_bytes(std::span(&message, 1)));
  }
}

}  // namespace bulkhead::shim
