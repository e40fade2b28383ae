#include "agent/launch.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

#include "base/sys.h"

namespace bulkhead::agent {
namespace {

constexpr size_t kMaxJoin = 8;
constexpr size_t kMaxPlanBytes = 8U << 20U;
constexpr size_t kMaxReportBytes = 16384;

// Both ends are the same program: plain memory will do.
struct Header {
  uint64_t clone_flags;
  uint32_t seccomp_flags;
  uint32_t present;  // bit i: the i-th of the six fds follows
  uint32_t join_count;
  std::array<int32_t, kMaxJoin> join_types;
  LaunchKind kind;
  bool new_cgroup;
  bool owns_uts;
};

std::array<UniqueFd*, 6> Slots(LaunchRequest& request) {
  return {&request.sync,      &request.cgroup,    &request.stdin_fd,
          &request.stdout_fd, &request.stderr_fd, &request.seccomp};
}

std::string_view Bytes(const auto& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

Status SendKind(int sync, LaunchReport::Kind kind, std::string_view rest,
                std::span<const int> fds) {
  return sys::SendWithFds(sync, fmt::format("{}{}", static_cast<char>(kind), rest), fds);
}

}  // namespace

Status LaunchRequest::JoinUserNamespace(const UniqueFd& user) {
  if (user.valid()) {
    join.push_back(TRY(sys::Dup(user.get())));
    join_types.push_back(CLONE_NEWUSER);
  }
  return {};
}

bool LaunchRequest::has_user_namespace() const {
  return std::any_of(join_types.begin(), join_types.end(),
                     [](int types) { return (types & CLONE_NEWUSER) != 0; });
}

Status SendLaunch(int zygote, const LaunchRequest& request) {
  const UniqueFd plan = TRY(sys::MemFd("plan"));
  TRY(sys::WriteAll(plan.get(), oci::SpecToJson(request.spec)));
  Header header{};
  header.clone_flags = request.clone_flags;
  header.seccomp_flags = request.seccomp_flags;
  header.kind = request.kind;
  header.new_cgroup = request.new_cgroup;
  header.owns_uts = request.owns_uts;
  header.join_count = static_cast<uint32_t>(request.join.size());
  if (request.join.size() > kMaxJoin) {
    return MakeError(ErrorCode::kInvalidArgument, "linux.namespaces: too many");
  }
  std::copy(request.join_types.begin(), request.join_types.end(), header.join_types.begin());
  std::vector<int> fds{plan.get()};
  const auto slots = Slots(const_cast<LaunchRequest&>(request));
  for (size_t i = 0; i < slots.size(); ++i) {
    if (slots[i]->valid()) {
      header.present |= 1U << i;
      fds.push_back(slots[i]->get());
    }
  }
  for (const UniqueFd& fd : request.join) {
    fds.push_back(fd.get());
  }
  TRY_AS(sys::SendWithFds(zygote, Bytes(header), fds), "zygote");
  return {};
}

Result<std::optional<LaunchRequest>> ReceiveLaunch(int socket) {
  auto message = TRY(sys::ReceiveWithFds(socket, sizeof(Header), 1 + 6 + kMaxJoin));
  if (message.closed) {
    return std::nullopt;
  }
  Header header{};
  std::memcpy(&header, message.data.data(), sizeof(header));
  LaunchRequest request;
  request.kind = header.kind;
  request.clone_flags = header.clone_flags;
  request.new_cgroup = header.new_cgroup;
  request.owns_uts = header.owns_uts;
  request.seccomp_flags = header.seccomp_flags;
  size_t next = 1;
  const auto slots = Slots(request);
  for (size_t i = 0; i < slots.size(); ++i) {
    if ((header.present >> i & 1U) != 0) {
      *slots[i] = std::move(message.fds.at(next++));
    }
  }
  for (size_t i = 0; i < header.join_count; ++i) {
    request.join_types.push_back(header.join_types[i]);
    request.join.push_back(std::move(message.fds.at(next++)));
  }
  const int plan = message.fds.at(0).get();
  TRY(sys::CheckCall(::lseek(plan, 0, SEEK_SET), "lseek"));
  request.spec = TRY(oci::ParseSpec(TRY(sys::ReadFd(plan, kMaxPlanBytes, "plan"))));
  return request;
}

Status ReportBorn(int sync, pid_t pid, int pidfd) {
  return SendKind(sync, LaunchReport::Kind::kBorn, Bytes(pid), std::array{pidfd});
}

Status ReportTerminal(int sync, int master) {
  return SendKind(sync, LaunchReport::Kind::kTerminal, "", std::array{master});
}

Status ReportReady(int sync) { return SendKind(sync, LaunchReport::Kind::kReady, "", {}); }

Status ReportFailed(int sync, const Error& error) {
  const std::array<int32_t, 2> numbers{static_cast<int32_t>(error.code()), error.errnum()};
  return SendKind(
      sync, LaunchReport::Kind::kFailed,
      fmt::format("{}{}", Bytes(numbers), error.message().substr(0, kMaxReportBytes - 64)), {});
}

Result<std::optional<LaunchReport>> ReceiveReport(int sync) {
  auto message = TRY(sys::ReceiveWithFds(sync, kMaxReportBytes, 1));
  if (message.closed) {
    return std::nullopt;
  }
  LaunchReport report;
  report.kind = static_cast<LaunchReport::Kind>(message.data[0]);
  report.fds = std::move(message.fds);
  const std::string rest = message.data.substr(1);
  std::array<int32_t, 2> numbers{};
  if (report.kind == LaunchReport::Kind::kBorn && rest.size() == sizeof(pid_t)) {
    std::memcpy(&report.pid, rest.data(), sizeof(pid_t));
  } else if (report.kind == LaunchReport::Kind::kFailed && rest.size() >= sizeof(numbers)) {
    std::memcpy(numbers.data(), rest.data(), sizeof(numbers));
    report.error =
        Error(static_cast<ErrorCode>(numbers[0]), numbers[1], rest.substr(sizeof(numbers)));
  }
  return report;
}

}  // namespace bulkhead::agent
