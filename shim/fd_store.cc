#include "shim/fd_store.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <array>
#include <sstream>

#include "base/sys.h"

namespace bulkhead::shim {
namespace {

constexpr size_t kMaxMessage = 1024;
constexpr std::chrono::seconds kPatience(5);
constexpr char kTaken[] = "ok";

}  // namespace

Result<std::unique_ptr<FdStore>> FdStore::Serve(UniqueFd listener, Logger& logger, Limits limits) {
  UniqueFd stop = TRY(sys::EventFd());
  return std::unique_ptr<FdStore>(
      new FdStore(std::move(listener), std::move(stop), logger, limits));
}

FdStore::FdStore(UniqueFd listener, UniqueFd stop, Logger& logger, Limits limits)
    : listener_(std::move(listener)),
      stop_(std::move(stop)),
      logger_(logger),
      limits_(limits),
      thread_([this] { Run(); }) {}

FdStore::~FdStore() {
  const uint64_t one = 1;
  (void)sys::Write(stop_.get(), std::as_bytes(std::span(&one, 1)));
  thread_.join();
}

void FdStore::Run() {
  while (true) {
    std::array<pollfd, 2> events{pollfd{listener_.get(), POLLIN, 0},
                                 pollfd{stop_.get(), POLLIN, 0}};
    const int count = ::poll(events.data(), events.size(), Expire());
    if (events[1].revents != 0) {
      return;
    }
    if (count <= 0 || events[0].revents == 0) {
      continue;
    }
    const auto connection = sys::Accept(listener_.get());
    const Status received =
        connection ? Receive(connection->get()) : tl::unexpected(connection.error());
    if (connection) {
      (void)sys::SendWithFds(connection->get(), received ? kTaken : received.error().message(), {});
    }
    if (!received) {
      logger_.Warning("open files of a client: " + received.error().message());
    }
  }
}

Status FdStore::Receive(int connection) {
  if (!TRY(sys::PollOne(connection, POLLIN, kPatience))) {
    return MakeError(ErrorCode::kDeadlineExceeded, "nothing was sent");
  }
  sys::Message message = TRY(sys::ReceiveWithFds(connection, kMaxMessage, kMaxNames));
  std::istringstream words(message.data);
  Set set;
  words >> set.token;
  std::string name;
  size_t count = 0;
  for (; words >> name && count < message.fds.size(); ++count) {
    set.fds[name] = std::move(message.fds[count]);
  }
  if (set.token.empty() || count != message.fds.size() || set.fds.size() != count || words) {
    return MakeError(ErrorCode::kInvalidArgument, "\"{}\" does not name {} files", message.data,
                     message.fds.size());
  }
  set.since = std::chrono::steady_clock::now();
  const std::lock_guard lock(mutex_);
  sets_.push_back(std::move(set));
  if (sets_.size() > limits_.sets) {
    sets_.pop_front();
  }
  return {};
}

int FdStore::Expire() {
  const std::lock_guard lock(mutex_);
  const auto now = std::chrono::steady_clock::now();
  while (!sets_.empty() && now - sets_.front().since >= limits_.age) {
    sets_.pop_front();
  }
  if (sets_.empty()) {
    return -1;
  }
  const auto left = limits_.age - (now - sets_.front().since);
  return static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(left).count());
}

Result<UniqueFd> FdStore::Take(const std::string& token, const std::string& name) {
  const std::lock_guard lock(mutex_);
  const auto set = std::find_if(sets_.begin(), sets_.end(),
                                [&](const Set& entry) { return entry.token == token; });
  const auto found = set == sets_.end() ? decltype(set->fds.end())() : set->fds.find(name);
  if (set == sets_.end() || found == set->fds.end()) {
    return MakeError(ErrorCode::kNotFound, "no open file \"{}\" was handed over as {}", name,
                     token);
  }
  UniqueFd fd = std::move(found->second);
  set->fds.erase(found);
  if (set->fds.empty()) {
    sets_.erase(set);
  }
  return fd;
}

Result<UniqueFd> FdStore::Take(std::string_view uri) {
  constexpr std::string_view kScheme = "fd://";
  const size_t slash = uri.find('/', kScheme.size());
  if (!uri.starts_with(kScheme) || slash == std::string_view::npos) {
    return MakeError(ErrorCode::kInvalidArgument, "\"{}\": expected fd://TOKEN/NAME", uri);
  }
  return Take(std::string(uri.substr(kScheme.size(), slash - kScheme.size())),
              std::string(uri.substr(slash + 1)));
}

size_t FdStore::size() const {
  const std::lock_guard lock(mutex_);
  return sets_.size();
}

Status HandOverFds(const std::string& socket, const std::string& token,
                   const std::vector<NamedFd>& fds) {
  std::string message = token;
  std::vector<int> numbers;
  for (const NamedFd& entry : fds) {
    message += " " + entry.name;
    numbers.push_back(entry.fd);
  }
  const UniqueFd connection = TRY(sys::ConnectUnix(socket, kPatience));
  TRY(sys::SendWithFds(connection.get(), message, numbers));
  if (!TRY(sys::PollOne(connection.get(), POLLIN, kPatience))) {
    return MakeError(ErrorCode::kDeadlineExceeded, "the pod's daemon takes no open files");
  }
  const sys::Message answer = TRY(sys::ReceiveWithFds(connection.get(), kMaxMessage, 0));
  if (answer.data != kTaken) {
    return MakeError(ErrorCode::kInternal, "the pod's daemon took no open files: {}", answer.data);
  }
  return {};
}

Result<UniqueFd> NonblockingCopy(UniqueFd fd, int access) {
  const auto info = TRY(sys::FStat(fd.get()));
  int number = 0;
  const bool terminal_master = S_ISCHR(info.st_mode) && ::ioctl(fd.get(), TIOCGPTN, &number) == 0;
  if (S_ISREG(info.st_mode)) {
    return fd;  // never blocks; and the place in it, and O_APPEND, are to be kept
  }
  if (!S_ISSOCK(info.st_mode) && !terminal_master) {
    const std::string path = fmt::format("/proc/self/fd/{}", fd.get());
    if (auto copy = sys::Open(path, access | O_NONBLOCK | O_NOCTTY)) {
      return copy;
    }
  }
  TRY(sys::SetNonblocking(fd.get(), true));
  return fd;
}

}  // namespace bulkhead::shim
