#include "shim/stand_in.h"

#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string_view>

#include "base/sys.h"

namespace bulkhead::shim {
namespace {

constexpr int kReportFd = 3;
constexpr int kNamespaceFd = 4;
constexpr size_t kMaxReport = 4096;

Status BringLoopbackUp() {
  const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strncpy(request.ifr_name, "lo", IFNAMSIZ - 1);
  TRY(sys::CheckCall(::ioctl(socket.get(), SIOCGIFFLAGS, &request), "lo: SIOCGIFFLAGS"));
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  return sys::CheckCall(::ioctl(socket.get(), SIOCSIFFLAGS, &request), "lo: SIOCSIFFLAGS");
}

Status EnterNetwork(const std::string& network) {
  if (network == "join") {
    return sys::SetNs(kNamespaceFd, CLONE_NEWNET);
  }
  if (network == "new") {
    TRY(sys::Unshare(CLONE_NEWNET));
    return BringLoopbackUp();
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<StandIn>> StandIn::Start(SpawnThread& spawner, const std::string& program,
                                                const NetworkNamespace& network,
                                                std::function<void()> on_end) {
  using Kind = NetworkNamespace::Kind;
  sys::Pipe report = TRY(sys::MakePipe());
  SpawnOptions spawn;
  spawn.argv = {program, "stand-in",
                network.kind == Kind::kHost  ? "host"
                : network.kind == Kind::kNew ? "new"
                                             : "join"};
  spawn.env.emplace();
  spawn.fds = {{report.write.get(), kReportFd}};
  UniqueFd joined;
  if (network.kind == Kind::kJoin) {
    joined = TRY_AS(sys::Open(network.path, O_RDONLY), "linux.namespaces: network");
    spawn.fds.push_back({joined.get(), kNamespaceFd});
  }
  Child child = TRY_AS(spawner.Spawn(spawn), "stand-in");
  report.write.Reset();
  std::array<std::byte, kMaxReport> buffer{};
  const size_t count = TRY(sys::Read(report.read.get(), buffer));
  const std::string_view said(reinterpret_cast<const char*>(buffer.data()), count);
  if (said != "ready") {
    return MakeError(ErrorCode::kInternal, "stand-in: {}", said.empty() ? "it ended" : said);
  }
  UniqueFd stop = TRY(sys::EventFd());
  return std::unique_ptr<StandIn>(
      new StandIn(std::move(child), std::move(stop), std::move(on_end)));
}

StandIn::StandIn(Child child, UniqueFd stop, std::function<void()> on_end)
    : child_(std::move(child)),
      stop_(std::move(stop)),
      watcher_([this, on_end = std::move(on_end)] { Watch(on_end); }) {}

StandIn::~StandIn() {
  const uint64_t one = 1;
  (void)sys::Write(stop_.get(), std::as_bytes(std::span(&one, 1)));
  watcher_.join();
}

void StandIn::Watch(const std::function<void()>& on_end) const {
  std::array<pollfd, 2> events{pollfd{child_.pidfd(), POLLIN, 0}, pollfd{stop_.get(), POLLIN, 0}};
  while (::poll(events.data(), events.size(), -1) <= 0) {
  }
  if (events[1].revents == 0) {
    on_end();
  }
}

bool StandIn::Ended() const {
  return sys::PollOne(child_.pidfd(), POLLIN, std::chrono::milliseconds(0)).value_or(false);
}

int StandInMain(const std::string& network) {
  ::prctl(PR_SET_NAME, "bulkhead-pause");
  const UniqueFd report(kReportFd);
  const auto entered = EnterNetwork(network);
  const std::string said = entered ? "ready" : entered.error().message();
  (void)sys::WriteAll(report.get(), said);
  if (!entered) {
    return 1;
  }
  // Nothing of the shim's shall be held: not its folder, nor its fds.
  (void)sys::Chdir("/");
  ::close_range(kReportFd, ~0U, 0);
  while (true) {
    ::pause();
  }
}

}  // namespace bulkhead::shim
