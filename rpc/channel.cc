#include "rpc/channel.h"

#include <grpc/grpc.h>
#include <grpcpp/create_channel_posix.h>
#include <grpcpp/server_posix.h>

#include "base/sys.h"

// gRPC makes threads by the number of CPUs (53 on 64 of them); agent and daemon need few. The
// linker puts this in the place of its own (--wrap).
extern "C" unsigned __wrap_gpr_cpu_num_cores() {  // NOLINT(bugprone-reserved-identifier)
  return 1;
}

namespace bulkhead::rpc {
namespace {

// A message of the agent is at most a process list; the guest is not to make us allocate more.
constexpr int kMaxReceiveBytes = 4 << 20;
constexpr int kKeepaliveTimeMs = 20'000;
constexpr int kKeepaliveTimeoutMs = 60'000;  // a paused or starved guest is not a dead one

}  // namespace

std::shared_ptr<grpc::Channel> ChannelFromFd(UniqueFd fd) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_CHANNELZ, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveTimeMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetMaxReceiveMessageSize(kMaxReceiveBytes);
  return grpc::CreateCustomInsecureChannelFromFd("bulkhead-agent", fd.Release(), arguments);
}

void ServeFd(grpc::Server& server, UniqueFd fd) {
  grpc::AddInsecureChannelFromFd(&server, fd.Release());
}

}  // namespace bulkhead::rpc
